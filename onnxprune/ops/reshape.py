"""Operators that regroup axes without moving elements: Reshape, Flatten, Squeeze, Unsqueeze."""

from __future__ import annotations

from collections.abc import Iterator

from onnxprune.coupling.atoms import Decline, Link, Operand
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.refine import common_refinement, spans
from onnxprune.coupling.registry import rule
from onnxprune.coupling.rewrite import Rewrite

Segment = tuple[list[int], list[int]]


def segments(before: tuple[int, ...], after: tuple[int, ...]) -> Iterator[Segment]:
    """Shortest runs of axes of two shapes with equal products, axes of length 1 left out."""
    left = [axis for axis, size in enumerate(before) if size != 1]
    right = [axis for axis, size in enumerate(after) if size != 1]
    i = j = 0
    while i < len(left) and j < len(right):
        mine, theirs = [left[i]], [right[j]]
        a, b = before[left[i]], after[right[j]]
        i, j = i + 1, j + 1
        while a != b:
            if a < b:
                if i == len(left):
                    raise Decline(f"shapes {before} and {after} hold different numbers of elements")
                a *= before[left[i]]
                mine.append(left[i])
                i += 1
            else:
                if j == len(right):
                    raise Decline(f"shapes {before} and {after} hold different numbers of elements")
                b *= after[right[j]]
                theirs.append(right[j])
                j += 1
        yield mine, theirs


def link_regrouped(x: Operand, y: Operand, link: Link) -> None:
    """y holds x's elements in the same order under another shape."""
    x.ignore()
    y.ignore()
    for mine, theirs in segments(x.shape, y.shape):
        if len(mine) == len(theirs) == 1:
            link.same(x[mine[0]], y[theirs[0]])
            continue
        sizes = common_refinement([[x.shape[a] for a in mine], [y.shape[a] for a in theirs]])
        if sizes is None:
            why = f"{[x.shape[a] for a in mine]} is regrouped to {[y.shape[a] for a in theirs]}, which do not nest"
            for operand, axes in ((x, mine), (y, theirs)):
                for axis in axes:
                    link.freeze(operand[axis], why)
            continue
        parts = [link.fresh(size) for size in sizes]
        for operand, axes in ((x, mine), (y, theirs)):
            runs = spans([operand.shape[axis] for axis in axes], sizes)
            for axis, (start, end) in zip(axes, runs, strict=True):
                link.factor(operand[axis], sizes[start:end], parts[start:end])


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def regroup(node: NodeView, link: Link) -> None:
    """Row-major regrouping of axes; what splits or joins is a factor."""
    if node.op == "Squeeze" and 0 in node.x.shape:
        raise Decline("an empty tensor")
    if node.op == "Reshape" and "shape" not in node.node.attrs and node.value(1) is None:
        raise Decline("its target shape is computed from data")
    link_regrouped(node.x, node.y, link)


@regroup.literals
def _(node: NodeView, edit: Rewrite) -> None:
    if node.op == "Squeeze":
        _keep_axes(node, edit)
    if node.op != "Reshape":
        return
    before, after = edit.shape(node.x), edit.shape(node.y)
    if "shape" in node.node.attrs:
        edit.attr("shape", _target(node.attr("shape"), before, after, node))
        return
    if (current := edit.current(1)) is not None:
        edit.want(1, _target(current.tolist(), before, after, node))


def _keep_axes(node: NodeView, edit: Rewrite) -> None:
    """A Squeeze that names no axes takes all of length 1, of which a single unit that stays must not be one."""
    named = "axes" in node.node.attrs or (len(node.node.inputs) > 1 and node.node.inputs[1])
    if named or edit.shape(node.x).count(1) == node.x.shape.count(1):
        return
    axes = [axis for axis, size in enumerate(node.x.shape) if size == 1]
    if not axes:
        edit.replace("Identity", [node.x.name])
    elif node.node.opset < 13:
        edit.attr("axes", axes)
    else:
        edit.want(1, axes)


def _target(stated: list[int], before: tuple[int, ...], after: tuple[int, ...], node: NodeView) -> list[int]:
    """The target shape, with 0 ("as the input") and -1 ("the rest") kept where they still say the right thing."""
    target = []
    for axis, (old, new) in enumerate(zip(stated, after, strict=True)):
        copies = old == 0 and not node.attr("allowzero", 0) and axis < len(before) and before[axis] == new
        target.append(old if old == -1 or copies else new)
    return target
