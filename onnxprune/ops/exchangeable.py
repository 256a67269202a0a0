"""Operators that treat the indices of an axis alike: give them in another order, and the result is in that order.

This holds for every axis that the operator's rule lets change; what stays (taps of a kernel, positions) is not asked
for. It is what lets the members of a head, or of a group of a grouped convolution, change places (coupling/balance.py).
Operators that look at neighbours or give numbers to indices (LRN, CumSum, TopK, ArgMax) are not among them, nor those
whose weights are packed: they are written anew from the indices that stay.
"""

from __future__ import annotations

from onnxprune.ops.elementwise import BROADCASTING, UNARY

_ONNX = frozenset({
    *UNARY, *BROADCASTING, "Clip", "CastLike", "Dropout",
    "Gemm", "MatMul", "Einsum", "Conv", "ConvTranspose", "Attention", "RotaryEmbedding", "LSTM", "GRU", "RNN",
    "BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "LpNormalization",
    "MeanVarianceNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "Softmax", "LogSoftmax",
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
    "AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool", "Resize", "Upsample",
    "Concat", "ConstantOfShape", "DepthToSpace", "Expand", "Flatten", "Gather", "Pad", "Reshape", "Slice",
    "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
    "DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear",
    "ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul",
})  # fmt: skip
_MICROSOFT = frozenset({
    "BiasAdd", "BiasDropout", "BiasGelu", "FastGelu", "GatedAdd", "Gelu", "QuickGelu", "ScaledSiLU",
    "FusedConv", "FusedGemm", "FusedMatMul", "GemmFastGelu", "NhwcConv", "NhwcFusedConv", "TransposeMatMul",
    "Attention", "GroupQueryAttention", "MultiHeadAttention", "PackedAttention",
    "EmbedLayerNormalization", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
    "QLinearAdd", "QLinearAveragePool", "QLinearConcat", "QLinearGlobalAveragePool", "QLinearLeakyRelu", "QLinearMul",
    "QLinearSigmoid", "QLinearSoftmax", "QLinearWhere", "QGemm", "DynamicQuantizeMatMul", "MatMulIntegerToFloat",
})  # fmt: skip
_PARALLEL = frozenset({"LSTM", "GRU", "RNN"})  # along their directions
_KNOWN = {"": _ONNX, "com.microsoft": _MICROSOFT}


def is_exchangeable(domain: str, op: str) -> bool:
    """Whether the operator is known to treat the indices of an axis alike."""
    return op in _KNOWN.get(domain, ())


def is_parallel(domain: str, op: str) -> bool:
    """Whether the operator does the same thing over and over along an axis of blocks that its rule freezes."""
    return domain == "" and op in _PARALLEL
