"""Pad: room before and after, or a crop where a pad is negative."""

from __future__ import annotations

from onnxprune.coupling.atoms import Decline, Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule
from onnxprune.coupling.rewrite import Rewrite

_AXES = 3  # input position since opset 18


def _attribute(node: NodeView) -> str:
    return "paddings" if "paddings" in node.node.attrs else "pads"


def padded_axes(node: NodeView) -> list[int]:
    """The axes that the pads refer to, in their order."""
    rank = node.x.rank
    given = node.ints(_AXES)
    return list(range(rank)) if given is None else [axis % rank for axis in given]


def _pads(node: NodeView) -> dict[int, tuple[int, int]]:
    """Axis -> (before, after). Raises Decline where they are computed from data."""
    pads, axes = node.ints(1, _attribute(node)), padded_axes(node)
    if pads is None or len(pads) != 2 * len(axes):
        raise Decline(f"its pads are no pair for each of {len(axes)} axes")
    return dict(zip(axes, zip(pads[: len(axes)], pads[len(axes) :], strict=True), strict=True))


def _varying(node: NodeView) -> set[int]:
    axes = padded_axes(node)
    if _attribute(node) in node.node.attrs:
        return set()
    before, after = node.varying(1, 2 * len(axes)).reshape(2, -1)
    return {axis for axis, unsure in zip(axes, before | after, strict=True) if unsure}


@rule("Pad")
def pad(node: NodeView, link: Link) -> None:
    """y's axis is x's with `before` and `after` new indices around it, or without so many of x's where negative.

    New indices hold a constant; nothing ties them to x, and the pads follow how many of them stay.
    """
    x, y, mode = node.x, node.y, node.attr("mode", "constant")
    pads, varying = _pads(node), _varying(node)
    for axis in range(x.rank):
        before, after = pads.get(axis, (0, 0))
        if axis in varying:
            why = "how much it is padded depends on a dynamic dimension"
        elif before == after == 0:
            link.same(x[axis], y[axis])
            continue
        elif mode != "constant":
            why = f"padded with its own elements (mode {mode})"
        elif min(before, 0) + min(after, 0) + x.shape[axis] <= 0:
            why = "nothing of it is left between the pads"
        else:
            mine = x[axis][max(-before, 0) : x.shape[axis] - max(-after, 0)]
            theirs = y[axis][max(before, 0) : y.shape[axis] - max(after, 0)]
            link.same(mine, theirs)
            if x.shape[axis] == 1:
                link.freeze(theirs, "the only index of what is padded", at=(y.name, axis))
            continue
        link.freeze(x[axis], why)
        link.freeze(y[axis], why)
    for other in node.inputs[1:]:
        if other is not None:
            other.ignore()  # a scalar, and lists of sizes


@pad.literals
def _(node: NodeView, edit: Rewrite) -> None:
    x, y = node.x, node.y
    starts, ends = [], []
    frozen = _varying(node)
    for axis, (before, after) in _pads(node).items():
        if axis not in frozen and node.attr("mode", "constant") == "constant":
            mine, theirs = edit.kept(x, axis), edit.kept(y, axis)
            first, last = before, after
            before = int((theirs < first).sum() - (mine < -first).sum())
            after = int((theirs >= y.shape[axis] - last).sum() - (mine >= x.shape[axis] + last).sum())
        starts.append(before)
        ends.append(after)
    if _attribute(node) in node.node.attrs:
        edit.attr(_attribute(node), starts + ends)
    else:
        edit.want(1, starts + ends)
