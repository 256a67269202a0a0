"""Trilu: the upper or lower triangle of matrices."""

from __future__ import annotations

from onnxprune.coupling.atoms import Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule


@rule("Trilu", since=14)
def trilu(node: NodeView, link: Link) -> None:
    """x and y [..., N, M]: what is zeroed depends on the position along the last two axes."""
    x, y = node.x, node.y
    link.same_axes(x, y)
    for axis in (-2, -1):
        link.freeze(x[axis], "a triangle is cut by position", at=(x.name, x.rank + axis))
    if (k := node.optional(1)) is not None:
        k.ignore()
