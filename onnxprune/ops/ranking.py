"""ArgMax, ArgMin, TopK: they give out positions along an axis, whose meaning would change with it."""

from __future__ import annotations

from onnxprune.coupling.atoms import Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule
from onnxprune.ops.reduce import link_kept_axes

WHY = "positions along it are given out as indices"


@rule("ArgMax", "ArgMin")
def arg(node: NodeView, link: Link) -> None:
    """y holds positions along `axis`, which stays; it has x's other axes."""
    x, axis = node.x, node.axis("axis", 0)
    link_kept_axes(x, node.y, [axis], bool(node.attr("keepdims", 1)), link)
    link.freeze(x[axis], WHY)


@rule("TopK")
def top_k(node: NodeView, link: Link) -> None:
    """Values and Indices have x's axes, but k of `axis`, which stays."""
    x, axis = node.x, node.axis("axis", -1)
    link.freeze(x[axis], WHY)
    for y in node.outputs:
        if y is not None:
            link.same_axes(x, y, skip=axis)
            link.freeze(y[axis], "the k largest or smallest, in order")
