"""Quantised operators of com.microsoft that nothing is pruned through, each with the reason that a person reads."""

from __future__ import annotations

from onnxprune.coupling.atoms import Decline, Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule
from onnxprune.graph.contrib import MICROSOFT

_TILES = "its tensors are laid out in the tiles of one GPU's matrix units"
_FUSED = "its products are fused for one GPU, and their parts are not followed"
_BLOB = "its matrix is one packed sequence whose layout is not specified"
REASONS = {
    "QOrderedAttention": _TILES,
    "QOrderedGelu": _TILES,
    "QOrderedLayerNormalization": _TILES,
    "QOrderedLongformerAttention": _TILES,
    "QOrderedMatMul": _TILES,
    "QuantizeWithOrder": _TILES,
    "DequantizeWithOrder": _TILES,
    "MatMulNBitsMlp": _FUSED,
    "MatMulNBitsQkv": _FUSED,
    "MatMulBlockQuantizedFp4Weight": _FUSED,
    "MatMulBlockQuantizedFp8Weight": _FUSED,
    "MatMulFpQ4": _BLOB,
    "QuantizeBFP": _BLOB,
    "DequantizeBFP": _BLOB,
}


@rule(*REASONS, domain=MICROSOFT, shapeless=True, frozen=REASONS)
def opaque(node: NodeView, link: Link) -> None:
    """All that the node touches stays."""
    raise Decline(REASONS[node.op], "prune the float model, and quantise after")
