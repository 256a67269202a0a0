"""Split: x's axis is the outputs laid end to end."""

from __future__ import annotations

import numpy as np

from onnxprune.coupling.atoms import Decline, Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule
from onnxprune.coupling.rewrite import Rewrite

SIZES_ARE_INPUT = 13  # the opset in which `split` moved from an attribute to an input
LAST_MAY_BE_SHORTER = 18  # the opset in which `num_outputs` came
_SIZES = 1


@rule("Split")
def split(node: NodeView, link: Link) -> None:
    """Sizes are stated, or equal but for a shorter last one. Outputs without a name take their indices all the same."""
    x, axis, start = node.x, node.axis("axis", 0), 0
    why = _why_open(node)
    if why:
        link.freeze(x[axis], why, at=(x.name, axis))
    sizes = None if why else _sizes(node)
    for place, y in enumerate(node.outputs):
        size = 0 if sizes is None else sizes[place]
        if y is not None:
            link.same_axes(x, y, skip=axis)
            if sizes is None:
                link.freeze(y[axis], why)
            else:
                link.same(x[axis][start : start + size], y[axis])
        if size == 1:
            link.freeze(x[axis][start : start + 1], "the only index of an output of Split", at=(x.name, axis))
        start += size


@split.literals
def _(node: NodeView, edit: Rewrite) -> None:
    x, axis = node.x, node.axis("axis", 0)
    if _why_open(node) or not edit.changed(x, axis):
        return
    edges = np.searchsorted(edit.kept(x, axis), np.cumsum([0, *_sizes(node)]))
    sizes = np.diff(edges).tolist()
    even = len(set(sizes)) == 1 or (node.opset >= LAST_MAY_BE_SHORTER and sizes == _equal(sum(sizes), len(sizes)))
    if even and not _is_stated(node):
        return
    if node.opset < SIZES_ARE_INPUT:
        edit.attr("split", sizes)
    else:
        edit.attr("num_outputs", None)  # sizes and their number exclude each other
        edit.want(_SIZES, sizes)


def _why_open(node: NodeView) -> str:
    """Why the sizes are not known for good, "" where they are."""
    if not _is_stated(node):
        return ""
    if "split" not in node.node.attrs and node.value(_SIZES) is None:
        return "its sizes are computed from data"
    return "its sizes depend on a dynamic dimension" if node.varies(_SIZES) else ""


def _is_stated(node: NodeView) -> bool:
    return "split" in node.node.attrs or node.optional(_SIZES) is not None


def _sizes(node: NodeView) -> list[int]:
    """One size per output. Raises Decline where they do not add up to the axis."""
    length, count = node.x.shape[node.axis("axis", 0)], len(node.outputs)
    sizes = node.ints(_SIZES, "split") if _is_stated(node) else _equal(length, node.attr("num_outputs", count))
    if sizes is None or len(sizes) != count or sum(sizes) != length or min(sizes) < 0:
        raise Decline(f"sizes {sizes} of {count} outputs do not add up to {length}")
    return sizes


def _equal(length: int, count: int) -> list[int]:
    """Equal sizes, rounded up; the last output has what is left (opset 18)."""
    size = -(-length // count)
    return [size] * (count - 1) + [length - size * (count - 1)]
