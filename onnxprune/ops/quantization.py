"""Quantisation: QuantizeLinear and DequantizeLinear of every granularity, and the integer operators of ai.onnx."""

from __future__ import annotations

from onnxprune.coupling.atoms import Decline, Link, Operand
from onnxprune.coupling.nodeview import NodeView, Work, every, work
from onnxprune.coupling.registry import rule
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.ops.conv import link_conv, rewrite_group
from onnxprune.ops.matmul import link_matmul
from onnxprune.ops.scales import ignore_scalars, link_blocks, link_by_index, link_columns, size, zero_point


@rule("QuantizeLinear", "DequantizeLinear")
def quantize_linear(node: NodeView, link: Link) -> None:
    """y has x's axes; scale and zero point are for the whole tensor, an index of `axis`, or a block of such (opset 21).

    Both are elementwise and exact: the scales are stored numbers, and are sliced with the axis.
    """
    x, scale = node.x, node.input(1)
    link.same_axes(x, node.y)
    for parameter in (scale, node.optional(2)):
        if parameter is None:
            continue
        if node.attr("block_size", 0):
            _link_blocked(node, x, parameter, link)
        elif size(parameter) == 1:
            parameter.ignore()
        elif parameter.rank == 1:
            link.same(parameter[0], x[node.axis("axis", 1)])
        else:
            raise Decline(f"a scale of shape {scale.shape} without a block size")


def _link_blocked(node: NodeView, x: Operand, scale: Operand, link: Link) -> None:
    """The scale has x's axes, but along `axis` one index for a block of `block_size`: a block goes as a whole."""
    axis, block = node.axis("axis", 1), node.attr("block_size", 0)
    if scale.rank != x.rank:
        raise Decline(f"a scale of shape {scale.shape} for blocks of a tensor of shape {x.shape}")
    for other in range(x.rank):
        if other != axis:
            link.same(scale[other], x[other])
    link_blocks(x[axis], scale[axis], block, (x.name, axis), link)


@rule("DynamicQuantizeLinear")
def dynamic_quantize_linear(node: NodeView, link: Link) -> None:
    """x -> y (uint8) with a scale and zero point from the range of x, which always takes in 0 (ONNX specification).

    What is zero here may as well not be there, for the range and for what is quantised: removal is exact, though
    all else is quantised by another scale than before.
    """
    link.same_axes(node.x, node.y)
    contract_all(node.x, link)
    ignore_scalars(node.outputs[1:])


def contract_all(x: Operand, link: Link) -> None:
    """Zeros of x have no part in what is made of it, whatever axis they are along: its range takes in 0 anyway."""
    for axis in range(x.rank):
        link.contract(x, axis)


@rule("QLinearConv")
def qlinear_conv(node: NodeView, link: Link) -> None:
    """Conv of x and w with the scale and zero point of each behind it (w's by output channel), those of y, and B."""
    x, w, y = node.x, node.input(3), node.y
    ignore_scalars([node.input(1), node.input(6), node.input(7)])
    link_conv(x, w, y, node.attr("group", 1), link, zero_point(node.input(2)))
    link_by_index([node.input(4), node.input(5)], w[0], link)
    if (bias := node.optional(8)) is not None:
        link.same(bias[0], y[1])


@qlinear_conv.literals
def _(node: NodeView, edit: Rewrite) -> None:
    if node.attr("group", 1) > 1:
        rewrite_group(node.x, node.input(3), edit)


@qlinear_conv.macs
def _(node: NodeView) -> Work:
    return work(every(node.y), every(node.input(3), 1))


@rule("ConvInteger")
def conv_integer(node: NodeView, link: Link) -> None:
    """Conv of x and w with a zero point each (w's by output channel), to int32."""
    x, w, y = node.x, node.input(1), node.y
    link_conv(x, w, y, node.attr("group", 1), link, zero_point(node.optional(2)))
    link_by_index([node.optional(3)], w[0], link)


@conv_integer.literals
def _(node: NodeView, edit: Rewrite) -> None:
    if node.attr("group", 1) > 1:
        rewrite_group(node.x, node.input(1), edit)


@conv_integer.macs
def _(node: NodeView) -> Work:
    return work(every(node.y), every(node.input(1), 1))


@rule("QLinearMatMul")
def qlinear_matmul(node: NodeView, link: Link) -> None:
    """MatMul of a and b with the scale and zero point of each behind it (b's by column), then those of y."""
    a, b, y = node.x, node.input(3), node.y
    ignore_scalars([node.input(1), node.input(6), node.input(7)])
    link_matmul(a, b, y, link, zero_point(node.input(2)))
    link_columns([node.input(4), node.input(5)], b, link)


@rule("MatMulInteger")
def matmul_integer(node: NodeView, link: Link) -> None:
    """MatMul of A and B with a zero point each (B's by column), to int32."""
    a, b, y = node.x, node.input(1), node.y
    link_matmul(a, b, y, link, zero_point(node.optional(2)))
    link_columns([node.optional(3)], b, link)


@qlinear_matmul.macs
@matmul_integer.macs
def _(node: NodeView) -> Work:
    return work(every(node.y), (node.x, node.x.rank - 1))
