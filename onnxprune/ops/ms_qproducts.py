"""com.microsoft's products of quantised matrices and images (ONNX Runtime, docs/ContribOperators.md)."""

from __future__ import annotations

from onnxprune.coupling.atoms import Link
from onnxprune.coupling.nodeview import NodeView, Work, every, work
from onnxprune.coupling.registry import rule
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.graph.contrib import MICROSOFT
from onnxprune.ops.conv import link_conv, rewrite_group
from onnxprune.ops.matmul import link_matmul
from onnxprune.ops.quantization import contract_all
from onnxprune.ops.scales import ignore_scalars, link_by_index, link_columns, zero_point


@rule("QLinearConv", domain=MICROSOFT)
def qlinear_conv(node: NodeView, link: Link) -> None:
    """As ai.onnx's QLinearConv; with `channels_last` the images x and y are [N, ..., C], the kernel stays as it is."""
    x, w, y = node.x, node.input(3), node.y
    channels = -1 if node.attr("channels_last", 0) else 1
    ignore_scalars([node.input(1), node.input(6), node.input(7)])
    link_conv(x, w, y, node.attr("group", 1), link, zero_point(node.input(2)), channels)
    link_by_index([node.input(4), node.input(5)], w[0], link)
    if (bias := node.optional(8)) is not None:
        link.same(bias[0], y[channels])


@qlinear_conv.literals
def _(node: NodeView, edit: Rewrite) -> None:
    if node.attr("group", 1) > 1:
        rewrite_group(node.x, node.input(3), edit, -1 if node.attr("channels_last", 0) else 1)


@qlinear_conv.macs
def _(node: NodeView) -> Work:
    return work(every(node.y), every(node.input(3), 1))


@rule("QGemm", domain=MICROSOFT)
def qgemm(node: NodeView, link: Link) -> None:
    """Y [M, N] = alpha A' [M, K] B' [K, N] + C, int32 C broadcast to Y; floats where Y has no scale.

    A, B and (optional) Y have a scale and a zero point each, B's for all or by column.
    """
    a, b, y = node.x, node.input(3), node.y
    flip_a, flip_b = bool(node.attr("transA", 0)), bool(node.attr("transB", 0))
    inner_a, inner_b = (0 if flip_a else 1), (1 if flip_b else 0)
    ignore_scalars([node.input(1), node.optional(7), node.optional(8)])
    link.same(a[1 - inner_a], y[0])
    link.same(b[1 - inner_b], y[1])
    link.contract(a, inner_a, b[inner_b], zero_point(node.optional(2)))
    link_by_index([node.input(4), node.optional(5)], b[1 - inner_b], link)
    if (c := node.optional(6)) is not None:
        for axis in range(c.rank):
            target = axis + y.rank - c.rank
            if c.shape[axis] == y.shape[target] > 1:
                link.same(c[axis], y[target])
            else:
                c.ignore(axis)


@qgemm.macs
def _(node: NodeView) -> Work:
    return work(every(node.y), (node.x, 0 if node.attr("transA", 0) else 1))


@rule("MatMulIntegerToFloat", domain=MICROSOFT)
def matmul_integer_to_float(node: NodeView, link: Link) -> None:
    """MatMul of 8-bit A and B, scales of A and B (by column), zero points of A and B (by column), float bias [N]."""
    a, b = node.x, node.input(1)
    ignore_scalars([node.input(2)])
    link_matmul(a, b, node.y, link, zero_point(node.optional(4)))
    link_columns([node.input(3), node.optional(5), node.optional(6)], b, link)


@rule("DynamicQuantizeMatMul", domain=MICROSOFT)
def dynamic_quantize_matmul(node: NodeView, link: Link) -> None:
    """MatMul of a float A, quantised here, and an 8-bit B with scale and zero point (by column), float bias [N].

    A's range takes in 0, so what is zero in A has no part in it: see DynamicQuantizeLinear.
    """
    a, b = node.x, node.input(1)
    link_matmul(a, b, node.y, link)
    contract_all(a, link)
    link_columns([node.input(2), node.optional(3), node.optional(4)], b, link)


@rule("MatMulInteger16", domain=MICROSOFT)
def matmul_integer16(node: NodeView, link: Link) -> None:
    """MatMul of 16-bit A and B, to int32."""
    link_matmul(node.x, node.input(1), node.y, link)


@matmul_integer_to_float.macs
@dynamic_quantize_matmul.macs
@matmul_integer16.macs
def _(node: NodeView) -> Work:
    return work(every(node.y), (node.x, node.x.rank - 1))
