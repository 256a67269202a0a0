"""Operator rules and patterns, one family a file. Importing a family registers what it has."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from onnxprune.coupling.registry import RULES, Registry

FAMILIES = (
    "elementwise",
    "conv",
    "matmul",
    "movement",
    "reshape",
    "recurrent",
    "normalization",
    "reduce",
    "ranking",
    "cumulative",
    "softmax",
    "random",
    "attention",
    "einsum",
    "quantization",
    "pooling",
    "resize",
    "pixels",
    "pad",
    "expand",
    "generators",
    "transforms",
    "opaque",
    "control_flow",
    "deform_conv",
    "causal_conv",
    "cache",
    "split",
    "slice",
    "gather",
    "gather_nd",
    "scatter_nd",
    "elements",
    "trilu",
    "reverse_sequence",
    "compress",
    "shuffle",
    "channel_conv",
    "routing",
    "as_strided",
    "sequence",
    "ms_qlinear",
    "ms_qproducts",
    "ms_qlstm",
    "ms_qattention",
    "ms_blockwise",
    "ms_qopaque",
    "ms_attention",
    "ms_fused_attention",
    "ms_grouped_attention",
    "ms_rotary",
    "ms_experts",
    "ms_norm",
    "ms_fused",
    "ms_activation",
    "ms_layout",
    "ms_state",
    "linear_attention",
    "ms_positions",
    "ms_images",
    "ms_indexing",
    "ms_matrices",
    "ms_opaque",
)
ENTRY_POINT = "onnxprune.rules"


@cache
def registry() -> Registry:
    """All rules: our families, then those that installed packages offer under the entry point `onnxprune.rules`."""
    for family in FAMILIES:
        import_module(f"{__name__}.{family}")
    for entry in entry_points(group=ENTRY_POINT):
        entry.load()
    return RULES
