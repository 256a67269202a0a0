"""GatherElements, ScatterElements and Scatter: indices of x's rank that address one axis element by element."""

from __future__ import annotations

from onnxprune.coupling.atoms import Link, Operand
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule

WHY = "each element has an index of its own along it"


def _link_others(x: Operand, axis: int, other: Operand, link: Link) -> None:
    """Axes but `axis` of `other` are the first indices of x's: in numpy, x[:n0, :n1, ...]."""
    for a in range(x.rank):
        size = other.shape[a]
        if a == axis:
            continue
        link.same(x[a] if size == x.shape[a] else x[a][:size], other[a])
        if size == 1 < x.shape[a]:
            link.freeze(x[a][:1], "its first index is taken alone", at=(x.name, a))


@rule("GatherElements", since=11)
def gather_elements(node: NodeView, link: Link) -> None:
    """y and indices of one shape; y[i, j] = x[indices[i, j], j] for axis 0. What is addressed stays."""
    x, indices, y = node.x, node.input(1), node.y
    axis = node.axis("axis", 0)
    link.freeze(x[axis], WHY, at=(x.name, axis))
    _link_others(x, axis, y, link)
    link.same_axes(indices, y)


@rule("ScatterElements", "Scatter", since=9)
def scatter_elements(node: NodeView, link: Link) -> None:
    """y is x with y[indices[i, j], j] = updates[i, j] for axis 0. No update of a place that stays may go."""
    x, indices, updates = node.x, node.input(1), node.input(2)
    axis = node.axis("axis", 0)
    link.same_axes(x, node.y)
    link.freeze(x[axis], WHY, at=(x.name, axis))
    _link_others(x, axis, updates, link)
    link.same_axes(indices, updates)
    link.freeze(updates[axis], WHY)
