"""CumSum and CumProd: each index holds what a run of indices up to it gives."""

from __future__ import annotations

from onnxprune.coupling.atoms import Decline, Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule

PRODUCTS = "products run along it"


def _axis(node: NodeView) -> int:
    """The axis, given as an input of one element. Raises Decline where it is computed from data."""
    given = node.ints(1)
    if given is None or len(given) != 1:
        raise Decline(f"its axis is {given}, not one number")
    return given[0] % node.x.rank


@rule("CumSum", since=11)
def cumulative_sum(node: NodeView, link: Link) -> None:
    """y[i] sums x up to i. A zero adds nothing to the sums that stay: the axis is summed over, and exact."""
    link.same_axes(node.x, node.y)
    link.contract(node.x, _axis(node))


@rule("CumProd", since=26, mixes=PRODUCTS)
def cumulative_product(node: NodeView, link: Link) -> None:
    """y[i] multiplies x up to i: without an index the products after it change."""
    link.same_axes(node.x, node.y)
    link.mix(node.x[_axis(node)], PRODUCTS)
