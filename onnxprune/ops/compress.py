"""Compress: the indices of an axis where a condition holds."""

from __future__ import annotations

from onnxprune.coupling.atoms import Decline, Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule


@rule("Compress", since=9)
def compress(node: NodeView, link: Link) -> None:
    """x [..., D, ...], condition [at most D] -> y [..., d, ...]: data says which indices stay."""
    x, y = node.x, node.y
    if node.attr("axis") is None:
        raise Decline("it flattens its input before it chooses")
    axis = node.axis("axis")
    link.same_axes(x, y, skip=axis)
    for ids, at in ((x[axis], (x.name, axis)), (y[axis], (y.name, axis)), (node.input(1)[0], (node.input(1).name, 0))):
        link.freeze(ids, "a condition chooses among its indices", at=at)
