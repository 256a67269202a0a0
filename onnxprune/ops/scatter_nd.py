"""ScatterND: y is x with the rows that tuples of indices name overwritten (or added to) by `updates`."""

from __future__ import annotations

from onnxprune.coupling.atoms import Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.ops.gather_nd import fixed_tuples, link_tail, link_tuples, rewrite_tuples


@rule("ScatterND", since=11)
def scatter_nd(node: NodeView, link: Link) -> None:
    """data and y [D1, ..., Dk, *T], indices [*I, k], updates [*I, *T].

    An update of a row that data addresses must stay: y would keep its own value there.
    """
    x, indices, updates = node.x, node.input(1), node.input(2)
    depth = indices.shape[-1]
    link.same_axes(x, node.y)
    link_tail(x, depth, updates, indices.rank - 1, link)
    if (chosen := fixed_tuples(node)) is not None:
        indices.ignore()
        link_tuples(x, chosen, updates, link)
        return
    why = "its indices are addressed by data"
    for operand, axes in ((x, range(depth)), (updates, range(indices.rank - 1)), (indices, range(indices.rank))):
        for axis in axes:
            link.freeze(operand[axis], why, at=(operand.name, axis))


@scatter_nd.literals
def _(node: NodeView, edit: Rewrite) -> None:
    rewrite_tuples(node, node.input(2), edit)
