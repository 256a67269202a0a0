"""com.microsoft's operators on matrices."""

from __future__ import annotations

from onnxprune.coupling.atoms import Link
from onnxprune.coupling.nodeview import NodeView, Work, work
from onnxprune.coupling.registry import rule
from onnxprune.graph.contrib import MICROSOFT
from onnxprune.ops.spatial import freeze_axes


@rule("Inverse", domain=MICROSOFT)
def inverse(node: NodeView, link: Link) -> None:
    """x and y [..., M, M]: every element of an inverse depends on all others."""
    x, y = node.x, node.y
    link.same_axes(x, y, skip=[x.rank - 2, x.rank - 1])
    for operand in (x, y):
        freeze_axes(link, operand, [x.rank - 2, x.rank - 1], "a matrix is inverted over it")


@rule("CDist", domain=MICROSOFT)
def distances(node: NodeView, link: Link) -> None:
    """A [M, K], B [N, K] -> C [M, N], the distance (squared, or its root) of every two rows: differences are summed."""
    a, b, y = node.x, node.input(1), node.y
    link.same(a[0], y[0])
    link.same(b[0], y[1])
    link.contract(a, 1, b[1])
    link.contract(b, 1)


@distances.macs
def _(node: NodeView) -> Work:
    return work((node.x, 0), (node.x, 1), (node.input(1), 0))
