"""Reductions: a sum over an axis is a contraction and exact; a mean, maximum or product is a statistic."""

from __future__ import annotations

from onnxprune.coupling.atoms import Link, Operand
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule

SUMS = ("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum")
"""Each is a function of a sum whose terms are zero where x is zero."""

NORMS = ("ReduceL1", "ReduceL2", "ReduceSumSquare", "LpNormalization")
"""Sizes of what they are taken of: of a weight, they scale it."""

STATISTICS = {
    "ReduceMean": "a mean is taken over it",
    "ReduceMax": "the maximum is taken over it",
    "ReduceMin": "the minimum is taken over it",
    "ReduceProd": "the product is taken over it",
    "ReduceLogSumExp": "exponentials, 1 where x is 0, are summed over it",
}


def reduced_axes(node: NodeView) -> list[int]:
    """The axes that are reduced, non-negative: an attribute, or an input since opset 18 (13 for ReduceSum).

    None given, or an empty list, means all, or none with noop_with_empty_axes. Raises Decline where they are
    computed from data.
    """
    rank = node.x.rank
    given = node.ints(1, "axes")
    if given:
        return sorted({axis % rank for axis in given})
    return [] if node.attr("noop_with_empty_axes", 0) else list(range(rank))


def link_kept_axes(x: Operand, y: Operand, reduced: list[int], keepdims: bool, link: Link) -> None:
    """y has x's axes without the reduced ones, or with length 1 in their place."""
    target = 0
    for axis in range(x.rank):
        if axis not in reduced:
            link.same(x[axis], y[target])
        target += keepdims or axis not in reduced


@rule(*SUMS)
def sums(node: NodeView, link: Link) -> None:
    """y is a sum over the reduced axes, or a function of it: a term of zero may as well not be there."""
    x, reduced = node.x, reduced_axes(node)
    link_kept_axes(x, node.y, reduced, bool(node.attr("keepdims", 1)), link)
    for axis in reduced:
        link.contract(x, axis)


@rule(*STATISTICS, mixes=STATISTICS)
def statistics(node: NodeView, link: Link) -> None:
    """y is a statistic over the reduced axes, which changes with what they hold."""
    x, reduced = node.x, reduced_axes(node)
    link_kept_axes(x, node.y, reduced, bool(node.attr("keepdims", 1)), link)
    for axis in reduced:
        link.mix(x[axis], STATISTICS[node.op])
