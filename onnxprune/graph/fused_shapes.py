"""Shapes of the operators that ONNX Runtime's optimisers fuse, and of its other floating-point ones.

Documented in its docs/ContribOperators.md; what is stated here is compared with what ONNX Runtime computes in tests.
Where a length depends on what flows through the model (the total length of a shared cache), the shape stays open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from onnxprune.graph.contrib import Known, Shape, Typed, channels_first, channels_last, infers, window_shape

Outputs = Sequence[Typed | None]
_FLOAT, _INT32, _BOOL = TensorProto.FLOAT, TensorProto.INT32, TensorProto.BOOL

# -- element by element, and normalisation -------------------------------------------------------------------------


@infers(
    "BiasAdd", "BiasGelu", "BiasSoftmax", "BranchwiseRMSNorm", "FastGelu", "GatedAdd", "GatedRMSNorm", "Gelu",
    "GroupNorm", "HyperConnectionPostMix", "Inverse", "LongformerAttention", "MRotaryEmbedding", "MoE", "QMoE",
    "QuickGelu", "RotaryEmbedding", "SampleOp", "ScaledSiLU", "Trilu",
)  # fmt: skip
def _like_first(node: Known) -> Outputs:
    return [node.typed(0)]


@infers("EngramGate", "LinearAttentionGate", "SkipGroupNorm")
def _both_like_first(node: Known) -> Outputs:
    return [node.typed(0), node.typed(0)]


@infers("BiasDropout")
def _bias_dropout(node: Known) -> Outputs:
    return [node.typed(0), (node.shape(0), _BOOL)]


@infers("BiasSplitGelu")
def _bias_split_gelu(node: Known) -> Outputs:
    *rest, width = node.shape(0)
    return [((*rest, width // 2), node.dtype(0))]


@infers("NGramRepeatBlock")
def _scores(node: Known) -> Outputs:
    return [node.typed(1)]


@infers("MurmurHash3")
def _hash(node: Known) -> Outputs:
    return [(node.shape(0), TensorProto.UINT32 if node.attr("positive", 1) else _INT32)]


@infers("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
def _skip_layer_norm(node: Known) -> Outputs:
    """y, the mean and inverse deviation of each row, and the sum that was normalised."""
    statistic = ((*node.shape(0)[:-1], 1), _FLOAT)
    return [node.typed(0), statistic, statistic, node.typed(0)]


@infers("ImageScaler", domain="")
def _image_scaler(node: Known) -> Outputs:
    """Experimental, and no longer among ai.onnx's schemas."""
    return [node.typed(0)]


@infers("SimplifiedLayerNormalization", domain="")
def _simplified_layer_norm(node: Known) -> Outputs:
    shape = node.shape(0)
    start = node.attr("axis", -1) % len(shape)
    return [node.typed(0), (shape[:start] + (1,) * (len(shape) - start), _FLOAT)]


@infers("EmbedLayerNormalization")
def _embed_layer_norm(node: Known) -> Outputs:
    """y [N, S, W], how many words each sentence has [N], and the sum that was normalised."""
    batch, steps = node.shape(0)
    y = ((batch, steps, node.shape(2)[1]), node.dtype(2))
    return [y, ((batch,), _INT32), y]


# -- attention -----------------------------------------------------------------------------------------------------


@infers("Attention")
def _attention(node: Known) -> Outputs:
    """y [N, S, V], present [2, N, heads, P + S, head size]."""
    (batch, steps, _), heads = node.shape(0), node.attr("num_heads")
    width = _projected(node)[2]
    past = node.shape(4)[3] if node.has(4) else 0
    total = past if past and node.attr("past_present_share_buffer", 0) else past + steps
    return [((batch, steps, width), node.dtype(0)), ((2, batch, heads, total, width // heads), node.dtype(0))]


@infers("PackedAttention")
def _packed_attention(node: Known) -> Outputs:
    return [((node.shape(0)[0], _projected(node)[2]), node.dtype(0))]


def _projected(node: Known) -> list[int]:
    """The widths of Q, K and V that a matrix (the second input) makes side by side."""
    return node.attr("qkv_hidden_sizes") or [node.shape(1)[1] // 3] * 3


@infers("MultiHeadAttention", "DecoderMaskedMultiHeadAttention")
def _multi_head_attention(node: Known) -> Outputs:
    """y [N, S, V], the present keys and values [N, heads, P + L, head size], and the scores [N, heads, S, P + L]."""
    past, room = (6, 8) if node.node.op == "MultiHeadAttention" else (5, 7)
    q, heads, dtype = node.shape(0), node.attr("num_heads"), node.dtype(0)
    length, size, depth = _keys_and_values(node, q, heads)
    if node.has(past):
        before = node.shape(past)[2]
        length = before if node.has(room) or node.attr("past_present_share_buffer", 0) else before + length
    key, value = (q[0], heads, length, size), (q[0], heads, length, depth)
    scores = (q[0], heads, q[1], length)
    return [((q[0], q[1], heads * depth), dtype), (key, dtype), (value, dtype), (scores, dtype)]


def _keys_and_values(node: Known, q: Shape, heads: int) -> tuple[int, int, int]:
    """How many keys there are, and the head sizes of keys and values; see the rule of MultiHeadAttention."""
    if len(q) == 5:
        return q[1], q[4], q[4]
    if not node.has(1):
        return q[1], q[2] // 3 // heads, q[2] // 3 // heads
    size = q[2] // heads
    if not node.has(2):
        return node.shape(1)[1], size, size
    v = node.shape(2)
    return (v[2], size, v[3]) if len(v) == 4 else (v[1], size, v[2] // heads)


@infers("PackedMultiHeadAttention")
def _packed_multi_head_attention(node: Known) -> Outputs:
    q = node.shape(0)
    return [((q[0], node.shape(2)[1] if node.has(2) else q[1] * q[3]), node.dtype(0))]


@infers("GroupQueryAttention")
def _group_query_attention(node: Known) -> Outputs:
    """y [N, S, heads x D], present keys and values [N, shared heads, T, D] with room for what was there, the scores."""
    q, heads, shared, dtype = node.shape(0), node.attr("num_heads"), node.attr("kv_num_heads"), node.dtype(0)
    size = q[2] // heads if node.has(1) else q[2] // (heads + 2 * shared)
    y = ((q[0], q[1], heads * size), dtype)
    if node.has(3) and node.attr("sliding_window_cache", 0):
        present = (node.shape(3), node.dtype(3))
        return [y, present, present]
    try:
        (total,) = node.ints(6)
    except KeyError:
        return [y]  # how long the cache will be is data
    room = max(total, node.shape(3)[2] if node.has(3) else 0)
    present = ((q[0], shared, room, size), node.dtype(3) if node.has(3) else dtype)
    return [y, present, present, ((q[0], heads, q[1], total), dtype)]


@infers("SparseAttention")
def _sparse_attention(node: Known) -> Outputs:
    q, heads, shared = node.shape(0), node.attr("num_heads"), node.attr("kv_num_heads")
    size = q[2] // heads if node.has(1) else q[2] // (heads + 2 * shared)
    return [((q[0], q[1], heads * size), node.dtype(0)), node.typed(3), node.typed(4)]


@infers("LinearAttention")
def _linear_attention(node: Known) -> Outputs:
    """y [N, T, heads x V], the larger number of heads, and the state [N, shared heads, K, V] or a window of such."""
    (batch, steps, width), v = node.shape(1), node.shape(2)
    heads, shared, window = node.attr("q_num_heads"), node.attr("kv_num_heads"), node.attr("state_window", 0)
    state = (batch, shared, width // shared, v[2] // shared)
    y = (batch, steps, max(heads, shared) * (v[2] // shared))
    dtype = node.dtype(3) if node.has(3) else node.dtype(0)
    return [(y, node.dtype(0)), ((window, *state) if window else state, dtype)]


@infers("RelativePositionBias")
def _relative_position_bias(node: Known) -> Outputs:
    (queries,), (keys,) = node.ints(1), node.ints(2)
    return [((1, node.shape(0)[1], queries, keys), node.dtype(0))]


@infers("GatedRelativePositionBias")
def _gated_relative_position_bias(node: Known) -> Outputs:
    batch = node.shape(6)[0] if node.has(6) else node.shape(0)[0]
    return [((batch, *node.shape(2)[1:]), node.dtype(2))]


# -- matrix products -----------------------------------------------------------------------------------------------


@infers("FusedMatMul", "TransposeMatMul", "FusedMatMulActivation", "SparseToDenseMatMul")
def _fused_matmul(node: Known) -> Outputs:
    """numpy's matmul of what the trans attributes make of A and B."""
    a, b = (
        tuple(node.shape(position)[axis] for axis in operand_axes(len(node.shape(position)), *flags))
        for position, flags in ((0, (node.attr("transA", 0), node.attr("transBatchA", 0))),
                                (1, (node.attr("transB", 0), node.attr("transBatchB", 0))))
    )  # fmt: skip
    if a[-1] != b[-2 if len(b) > 1 else 0]:
        raise ValueError(f"no product of {a} and {b}")
    return [((*np.broadcast_shapes(a[:-2], b[:-2]), *a[-2:-1], *(b[-1:] if len(b) > 1 else ())), node.dtype(0))]


def operand_axes(rank: int, trans: int, trans_batch: int) -> list[int]:
    """The axis of a FusedMatMul's operand that stands at each place of the product.

    transBatch puts the first axis behind the other batch axes, trans swaps the last two; a vector is left as it is.
    """
    axes = list(range(rank))
    if rank > 1 and trans_batch:
        axes = [*axes[1:-1], axes[0], axes[-1]]
    if rank > 1 and trans:
        axes[-2], axes[-1] = axes[-1], axes[-2]
    return axes


@infers("FusedGemm")
def _fused_gemm(node: Known) -> Outputs:
    a, b = node.shape(0), node.shape(1)
    rows, columns = a[1 if node.attr("transA", 0) else 0], b[0 if node.attr("transB", 0) else 1]
    return [((rows, columns), node.dtype(0))]


@infers("GemmFastGelu")
def _gemm_fast_gelu(node: Known) -> Outputs:
    return [((*node.shape(0)[:-1], node.shape(1)[1]), node.dtype(0))]


@infers("CDist")
def _distances(node: Known) -> Outputs:
    return [((node.shape(0)[0], node.shape(1)[0]), node.dtype(0))]


# -- images --------------------------------------------------------------------------------------------------------


@infers("FusedConv")
def _fused_conv(node: Known) -> Outputs:
    return [(window_shape(node, "Conv", node.shape(0), node.shape(1)), node.dtype(0))]


@infers("NhwcConv", "NhwcFusedConv")
def _nhwc_conv(node: Known) -> Outputs:
    """The kernel is [K, C/g, ...] all the same."""
    return [(channels_last(window_shape(node, "Conv", channels_first(node.shape(0)), node.shape(1))), node.dtype(0))]


@infers("ConvTransposeWithDynamicPads")
def _conv_transpose(node: Known) -> Outputs:
    pads = node.ints(2) if node.has(2) else None
    return [(window_shape(node, "ConvTranspose", node.shape(0), node.shape(1), pads=pads), node.dtype(0))]


@infers("MaxpoolWithMask")
def _max_pool_with_mask(node: Known) -> Outputs:
    return [(window_shape(node, "MaxPool", node.shape(0)), node.dtype(0))]


@infers("CropAndResize")
def _crop_and_resize(node: Known) -> Outputs:
    return [((node.shape(1)[0], node.shape(0)[1], *node.ints(3)), node.dtype(0))]


@infers("GridSample")
def _grid_sample(node: Known) -> Outputs:
    return [((*node.shape(0)[:2], *node.shape(1)[1:3]), node.dtype(0))]


@infers("CausalConvWithState")
def _causal_conv(node: Known) -> Outputs:
    """y like x, and the steps that the next call needs: (k - 1) x dilation of them along the last spatial axis."""
    x, window = node.shape(0), node.attr("state_window", 0)
    steps = (node.shape(1)[-1] - 1) * node.attr("dilation", 1)
    state = (x[0], steps, *x[2:]) if node.attr("channels_last", 0) else (*x[:-1], steps)
    return [node.typed(0), ((window, *state) if window else state, node.dtype(0))]


# -- spelled as in ai.onnx -----------------------------------------------------------------------------------------


@infers("Pad")
def _pad(node: Known) -> Outputs:
    shape, pads = node.shape(0), node.ints(1)
    return [
        (tuple(n + pads[axis] + pads[axis + len(shape)] for axis, n in enumerate(shape)), node.dtype(0)),
    ]


@infers("GatherND")
def _gather_nd(node: Known) -> Outputs:
    data, indices = node.shape(0), node.shape(1)
    return [((*indices[:-1], *data[indices[-1] :]), node.dtype(0))]


@infers("ExpandDims")
def _expand_dims(node: Known) -> Outputs:
    shape, (axis,) = node.shape(0), node.ints(1)
    at = axis % (len(shape) + 1)
    return [((*shape[:at], 1, *shape[at:]), node.dtype(0))]


@infers("Range")
def _range(node: Known) -> Outputs:
    start, limit = (float(node.values[node.node.inputs[k]].item()) for k in (0, 1))
    delta = float(node.values[node.node.inputs[2]].item()) if node.has(2) else 1.0
    return [((max(0, math.ceil((limit - start) / delta)),), node.dtype(0))]


@infers("UnfoldTensor")
def _unfold(node: Known) -> Outputs:
    shape, size = list(node.shape(0)), node.attr("size")
    at = node.attr("dim", -1) % len(shape)
    shape[at] = (shape[at] - size) // node.attr("step", 1) + 1
    return [((*shape, size), node.dtype(0))]


# -- hyper-connections ---------------------------------------------------------------------------------------------


@infers("HyperConnectionPreMix")
def _pre_mix(node: Known) -> Outputs:
    shape, branches = node.shape(0), node.attr("num_branches", 0)
    kept = (*shape[:-1], shape[-1] // branches) if branches else (*shape[:-2], shape[-1])
    return [(kept, node.dtype(0))]
