"""com.microsoft's QLinear operators: what ONNX Runtime's quantiser and optimiser make of operators on 8-bit tensors.

Each computes with real numbers between a DequantizeLinear of its inputs and a QuantizeLinear of its output. Scales
and zero points are for whole tensors. Specified in ONNX Runtime's docs/ContribOperators.md.
"""

from __future__ import annotations

from onnxprune.coupling.atoms import Link, Operand
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule, same_rule
from onnxprune.graph.contrib import MICROSOFT
from onnxprune.ops.elementwise import broadcast, tag_width
from onnxprune.ops.movement import link_concat
from onnxprune.ops.pooling import GLOBAL_STATISTICS
from onnxprune.ops.quantization import quantize_linear
from onnxprune.ops.reduce import STATISTICS, link_kept_axes, sums
from onnxprune.ops.scales import ignore_scalars
from onnxprune.ops.softmax import link_distribution
from onnxprune.ops.spatial import SPATIAL, freeze_axes, link_image

_AXIS_WISE_SOFTMAX = 13  # the opset from which on Softmax runs over one axis

same_rule(quantize_linear, "QuantizeLinear", "DequantizeLinear", domain=MICROSOFT)
same_rule(sums, "ReduceSumInteger", domain=MICROSOFT)


@rule("QLinearSigmoid", "QLinearLeakyRelu", domain=MICROSOFT)
def activation(node: NodeView, link: Link) -> None:
    """X with its scale and zero point, those of Y -> Y with X's axes."""
    ignore_scalars(node.inputs[1:])
    link.same_axes(node.x, node.y)


@rule("QLinearAdd", "QLinearMul", domain=MICROSOFT)
def binary(node: NodeView, link: Link) -> None:
    """A and B, each with its scale and zero point, then those of C -> C; A and B broadcast."""
    ignore_scalars([*node.inputs[1:3], *node.inputs[4:]])
    operands = _broadcast([node.x, node.input(3)], node.y, link)
    if node.op == "QLinearAdd":
        tag_width(operands, node.y, link)


@rule("MulInteger", domain=MICROSOFT)
def multiply(node: NodeView, link: Link) -> None:
    """A and B, each with its zero point -> C, int32; A and B broadcast."""
    ignore_scalars([node.optional(1), node.optional(3)])
    _broadcast([node.x, node.input(2)], node.y, link)


@rule("QLinearWhere", domain=MICROSOFT)
def where(node: NodeView, link: Link) -> None:
    """A condition; X and Y, each with its scale and zero point; then those of Z -> Z. The three tensors broadcast."""
    ignore_scalars([*node.inputs[2:4], *node.inputs[5:]])
    _broadcast([node.x, node.input(1), node.input(4)], node.y, link)


def _broadcast(operands: list[Operand], y: Operand, link: Link) -> list[Operand]:
    """Link them to y; gives those that are computed."""
    y.ignore()
    for x in operands:
        broadcast(x, y, link)
    return [x for x in operands if not x.is_constant]


@rule("QLinearConcat", domain=MICROSOFT)
def concat(node: NodeView, link: Link) -> None:
    """Y's scale and zero point, then tensors with theirs -> Y, the tensors laid end to end along `axis`."""
    parts = [node.input(position) for position in range(2, len(node.inputs), 3)]
    ignore_scalars([*node.inputs[:2], *(x for start in (3, 4) for x in node.inputs[start::3])])
    link_concat(parts, node.y, node.axis("axis", rank=node.y.rank), link)


@rule("QLinearSoftmax", domain=MICROSOFT, mixes="Softmax runs over it")
def softmax(node: NodeView, link: Link) -> None:
    """As Softmax of the opset that the attribute `opset` names."""
    ignore_scalars(node.inputs[1:])
    by_axis = node.attr("opset", 1) >= _AXIS_WISE_SOFTMAX
    axis = node.axis("axis", -1)
    link_distribution(node.x, node.y, range(axis, axis + 1 if by_axis else node.x.rank), "Softmax", link)


@rule("QLinearReduceMean", domain=MICROSOFT, mixes=STATISTICS["ReduceMean"])
def reduce_mean(node: NodeView, link: Link) -> None:
    """The mean over `axes`, over all unless given."""
    x = node.x
    ignore_scalars(node.inputs[1:])
    reduced = sorted({axis % x.rank for axis in node.attr("axes") or range(x.rank)})
    link_kept_axes(x, node.y, reduced, bool(node.attr("keepdims", 1)), link)
    for axis in reduced:
        link.mix(x[axis], STATISTICS["ReduceMean"])


@rule("QLinearAveragePool", domain=MICROSOFT)
def average_pool(node: NodeView, link: Link) -> None:
    """Images, channels first or, with `channels_last`, last: each channel by itself, over windows of places."""
    ignore_scalars(node.inputs[1:])
    if node.attr("channels_last", 0):
        link_image_channels_last(node.x, node.y, link)
    else:
        link_image(node.x, node.y, link)


@rule("NhwcMaxPool", domain=MICROSOFT)
def max_pool(node: NodeView, link: Link) -> None:
    """8-bit images [N, H, W, C]: each channel by itself, over windows of places."""
    link_image_channels_last(node.x, node.y, link)


def link_image_channels_last(x: Operand, y: Operand, link: Link) -> None:
    """Batch and channels of y are x's; the places in between stay."""
    link.same(x[0], y[0])
    link.same(x[-1], y[-1])
    for operand in (x, y):
        freeze_axes(link, operand, range(1, operand.rank - 1), SPATIAL)


@rule("QLinearGlobalAveragePool", domain=MICROSOFT, mixes=GLOBAL_STATISTICS["GlobalAveragePool"])
def global_average_pool(node: NodeView, link: Link) -> None:
    """Images, channels first or, with `channels_last`, last: one number a channel."""
    x, y = node.x, node.y
    ignore_scalars(node.inputs[1:])
    last = bool(node.attr("channels_last", 0))
    channels = x.rank - 1 if last else 1
    link.same(x[0], y[0])
    link.same(x[channels], y[channels])
    for axis in range(1, x.rank):
        if axis != channels:
            link.mix(x[axis], GLOBAL_STATISTICS["GlobalAveragePool"])
