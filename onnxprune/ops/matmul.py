"""Matrix products: Gemm, and MatMul of any rank with stored or computed operands."""

from __future__ import annotations

from collections.abc import Sequence

from onnxprune.coupling.atoms import Link, Operand
from onnxprune.coupling.nodeview import NodeView, Work, every, work
from onnxprune.coupling.registry import rule


@rule("Gemm")
def gemm(node: NodeView, link: Link) -> None:
    """Y [M, N] = alpha A' [M, K] B' [K, N] + beta C, C broadcast to Y."""
    a, b, y = node.x, node.input(1), node.y
    flip_a, flip_b = bool(node.attr("transA", 0)), bool(node.attr("transB", 0))
    inner_a, inner_b = (0 if flip_a else 1), (1 if flip_b else 0)
    link.same(a[1 - inner_a], y[0])
    link.same(b[1 - inner_b], y[1])
    link.contract(a, inner_a, b[inner_b])
    if (c := node.optional(2)) is not None:
        for axis in range(c.rank):
            target = axis + y.rank - c.rank
            if c.shape[axis] == y.shape[target] and c.shape[axis] > 1:
                link.same(c[axis], y[target])
            else:
                c.ignore(axis)


@gemm.macs
def _(node: NodeView) -> Work:
    inner = 0 if node.attr("transA", 0) else 1
    return work(every(node.y), (node.x, inner))


@rule("MatMul")
def matmul(node: NodeView, link: Link) -> None:
    """numpy's matmul: A [..., M, K] B [..., K, N] -> [..., M, N]; vectors lose their axis, batch axes broadcast."""
    a, b, y = node.x, node.input(1), node.y
    link_matmul(a, b, y, link, weights=node.is_picked(0) or node.is_picked(1))


def link_matmul(
    a: Operand, b: Operand, y: Operand, link: Link, zero: Operand | None = None,
    places_a: Sequence[int] = (), places_b: Sequence[int] = (), weights: bool = False,
) -> None:  # fmt: skip
    """The links of numpy's matmul; shared with the operators that fuse it, and the quantised, whose a has a `zero`.

    `places_a` and `places_b` say which axis of a and b stands at each place of the product, where they are transposed;
    `weights`, that one of them is a weight though it is computed.
    """
    at_a, at_b = places_a or range(a.rank), places_b or range(b.rank)
    link.contract(a, at_a[-1], b[at_b[-2 if b.rank > 1 else 0]], zero)
    y.ignore()
    rows = y.rank - (2 if b.rank > 1 else 1) if a.rank > 1 else None
    if rows is not None:
        link.same(a[at_a[-2]], y[rows])
    if b.rank > 1:
        link.same(b[at_b[-1]], y[-1])
    batch = y.rank - (a.rank > 1) - (b.rank > 1)
    computed = not (a.is_constant or b.is_constant or weights)
    for operand, at in ((a, at_a), (b, at_b)):
        for place in range(operand.rank - 2):
            axis, target = at[place], batch - (operand.rank - 2) + place
            if operand.shape[axis] == y.shape[target] and operand.shape[axis] > 1:
                link.same(operand[axis], y[target])
                if computed:
                    link.tag(operand[axis], "heads")
            else:
                operand.ignore(axis)
    if computed:
        link.tag(a[at_a[-1]], "head_dims")
        if b.rank > 1:
            link.tag(b[at_b[-1]], "head_dims")


@matmul.macs
def _(node: NodeView) -> Work:
    return work(every(node.y), (node.x, node.x.rank - 1))
