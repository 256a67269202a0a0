"""Shapes of the quantised operators of com.microsoft (ONNX Runtime, docs/ContribOperators.md)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from onnxprune.graph.contrib import Known, Shape, Typed, channels_first, channels_last, infers, window_shape

_BYTE = 8


@infers("QuantizeLinear")
def _quantize(node: Known) -> Sequence[Typed | None]:
    return [(node.shape(0), node.dtype(2) if node.has(2) else TensorProto.UINT8)]


@infers("DequantizeLinear")
def _dequantize(node: Known) -> Sequence[Typed | None]:
    return [(node.shape(0), node.dtype(1))]


@infers("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax")
def _like_first(node: Known) -> Sequence[Typed | None]:
    return [node.typed(0)]


@infers("QLinearAdd", "QLinearMul")
def _binary(node: Known) -> Sequence[Typed | None]:
    return [(np.broadcast_shapes(node.shape(0), node.shape(3)), node.dtype(0))]


@infers("MulInteger")
def _multiply(node: Known) -> Sequence[Typed | None]:
    return [(np.broadcast_shapes(node.shape(0), node.shape(2)), TensorProto.INT32)]


@infers("QLinearWhere")
def _where(node: Known) -> Sequence[Typed | None]:
    return [(np.broadcast_shapes(node.shape(0), node.shape(1), node.shape(4)), node.dtype(1))]


@infers("QLinearConcat")
def _concat(node: Known) -> Sequence[Typed | None]:
    """Y's scale and zero point come first, then a tensor, its scale and its zero point, again and again."""
    shapes = [node.shape(position) for position in range(2, len(node.node.inputs), 3)]
    axis = node.attr("axis") % len(shapes[0])
    joined = sum(shape[axis] for shape in shapes)
    return [((*shapes[0][:axis], joined, *shapes[0][axis + 1 :]), node.dtype(2))]


@infers("QLinearReduceMean", "ReduceSumInteger")
def _reduce(node: Known) -> Sequence[Typed | None]:
    shape = node.shape(0)
    axes = {axis % len(shape) for axis in node.attr("axes") or range(len(shape))}
    kept = [1 if a in axes else n for a, n in enumerate(shape) if node.attr("keepdims", 1) or a not in axes]
    return [(tuple(kept), node.dtype(0) if node.node.op == "QLinearReduceMean" else TensorProto.INT32)]


@infers("QLinearAveragePool", "QLinearGlobalAveragePool")
def _average_pool(node: Known) -> Sequence[Typed | None]:
    op = node.node.op.removeprefix("QLinear")
    if node.attr("channels_last", 0):
        return [(channels_last(window_shape(node, op, channels_first(node.shape(0)))), node.dtype(0))]
    return [(window_shape(node, op, node.shape(0)), node.dtype(0))]


@infers("NhwcMaxPool")
def _max_pool(node: Known) -> Sequence[Typed | None]:
    return [(channels_last(window_shape(node, "MaxPool", channels_first(node.shape(0)))), node.dtype(0))]


@infers("QLinearConv")
def _conv(node: Known) -> Sequence[Typed | None]:
    """The kernel is [K, C/g, ...] whatever the order of the image's axes."""
    if node.attr("channels_last", 0):
        first = window_shape(node, "Conv", channels_first(node.shape(0)), node.shape(3))
        return [(channels_last(first), node.dtype(7))]
    return [(window_shape(node, "Conv", node.shape(0), node.shape(3)), node.dtype(7))]


@infers("QGemm")
def _gemm(node: Known) -> Sequence[Typed | None]:
    a, b = node.shape(0), node.shape(3)
    rows, columns = a[1 if node.attr("transA", 0) else 0], b[0 if node.attr("transB", 0) else 1]
    return [((rows, columns), node.dtype(0) if node.has(7) else node.dtype(1))]


def _matmul_shape(a: Shape, b: Shape) -> Shape:
    """numpy.matmul's."""
    if a[-1] != b[-2 if len(b) > 1 else 0]:
        raise ValueError(f"no product of {a} and {b}")
    batch = np.broadcast_shapes(a[:-2], b[:-2])
    return (*batch, *(a[-2:-1]), *(b[-1:] if len(b) > 1 else ()))


@infers("MatMulIntegerToFloat")
def _matmul_to_float(node: Known) -> Sequence[Typed | None]:
    return [(_matmul_shape(node.shape(0), node.shape(1)), node.dtype(2))]


@infers("DynamicQuantizeMatMul")
def _matmul_dynamic(node: Known) -> Sequence[Typed | None]:
    return [(_matmul_shape(node.shape(0), node.shape(1)), node.dtype(0))]


@infers("MatMulInteger16")
def _matmul_integer(node: Known) -> Sequence[Typed | None]:
    return [(_matmul_shape(node.shape(0), node.shape(1)), TensorProto.INT32)]


@infers("MatMulNBits", "MatMulBnb4")
def _matmul_packed(node: Known) -> Sequence[Typed | None]:
    """A [..., K] by a packed matrix of which the attributes state K and N."""
    a = node.shape(0)
    if a[-1] != node.attr("K"):
        raise ValueError(f"rows of {a[-1]} for a matrix of {node.attr('K')}")
    return [((*a[:-1], int(node.attr("N"))), node.dtype(0))]


@infers("GatherBlockQuantized")
def _gather_blocks(node: Known) -> Sequence[Typed | None]:
    """As Gather; bytes hold several elements of the last axis each."""
    data, indices = list(node.shape(0)), node.shape(1)
    if node.dtype(0) == TensorProto.UINT8:
        data[-1] *= _BYTE // node.attr("bits", 4)
    axis = node.attr("gather_axis", 0) % len(data)
    return [((*data[:axis], *indices, *data[axis + 1 :]), node.dtype(2))]


@infers("DynamicQuantizeLSTM")
def _lstm(node: Known) -> Sequence[Typed | None]:
    """X [S, N, I], R [D, H, 4H] -> Y [S, D, N, H], Y_h and Y_c [D, N, H]."""
    (steps, batch, _), (directions, hidden, _) = node.shape(0), node.shape(2)
    state = ((directions, batch, hidden), node.dtype(0))
    return [((steps, directions, batch, hidden), node.dtype(0)), state, state]


@infers("QAttention")
def _attention(node: Known) -> Sequence[Typed | None]:
    """Input [N, S, I], weight [I, 3 x heads x D] -> output [N, S, heads x D], present [2, N, heads, P + S, D]."""
    (batch, steps, _), (_, joined) = node.shape(0), node.shape(1)
    width, heads = joined // 3, int(node.attr("num_heads"))
    past = node.shape(8)[3] if node.has(8) else 0
    present = (2, batch, heads, past + steps, width // heads)
    return [((batch, steps, width), node.dtype(3)), (present, node.dtype(3))]


@infers("QEmbedLayerNormalization")
def _embed(node: Known) -> Sequence[Typed | None]:
    """Ids [N, S], words [V, H] -> [N, S, H], and the mask's index [N]."""
    batch, steps = node.shape(0)
    return [((batch, steps, node.shape(2)[1]), node.dtype(8)), ((batch,), TensorProto.INT32)]
