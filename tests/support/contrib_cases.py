"""One small node of each float operator that ONNX Runtime adds, in the forms that its inputs may take.

Shapes that are stated for them are compared with what ONNX Runtime computes, and what their rules declare with what
analysis of these nodes shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

MICROSOFT = "com.microsoft"
Given = tuple[int, ...] | np.ndarray  # a shape to be filled with random floats, or a value that is stored


@dataclass(frozen=True)
class Case:
    """`inputs` by name, in order; None is an input left out. `outputs` is how many of them are asked for."""

    op: str
    inputs: Mapping[str, Given | None]
    outputs: int = 1
    attrs: Mapping[str, Any] = field(default_factory=dict)
    domain: str = MICROSOFT
    runs: bool = True  # ONNX Runtime's CPU build ships it

    def model(self) -> onnx.ModelProto:
        """The node alone: floats are inputs, the rest is stored; outputs without a shape."""
        names = [name if given is not None else "" for name, given in self.inputs.items()]
        outputs = [f"y{k}" for k in range(self.outputs)]
        node = helper.make_node(self.op, names, outputs, domain=self.domain, **self.attrs)
        given = {name: x for name, x in self.inputs.items() if x is not None}
        graph = helper.make_graph(
            [node], "case",
            [
                helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, list(x))
                for name, x in given.items() if isinstance(x, tuple)
            ],
            [onnx.ValueInfoProto(name=name) for name in outputs],
            [numpy_helper.from_array(x, name) for name, x in given.items() if isinstance(x, np.ndarray)],
        )  # fmt: skip
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def feeds(self) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(0)
        return {name: rng.normal(size=x).astype(np.float32) for name, x in self.inputs.items() if isinstance(x, tuple)}


def int32(*values: int) -> np.ndarray:
    return np.asarray(values, np.int32)


def int64(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


def scalar(value: int) -> np.ndarray:
    return np.asarray(value, np.int32)


def _grouped(steps: int, past: int, batch: int = 1, **more: Given | None) -> dict[str, Given | None]:
    """Inputs of GroupQueryAttention: two heads of 16 share one; `past` steps were there."""
    cache = (batch, 1, past, 16) if past else None
    return {
        "q": (batch, steps, 32), "k": (batch, steps, 16), "v": (batch, steps, 16), "past_k": cache, "past_v": cache,
        "lengths": int32(*[past + steps - 1] * batch), "total": scalar(past + steps), **more,
    }  # fmt: skip


_X = (2, 3, 6)
_IMAGE = (2, 4, 6, 5)
_GQA = {"num_heads": 2, "kv_num_heads": 1}
_MOE = {"x": (3, 6), "router": (3, 4), "fc1": (4, 5, 6), "b1": (4, 5), "fc2": (4, 6, 5), "b2": (4, 6)}
_LINEAR = {"q": (2, 3, 8), "k": (2, 3, 4), "v": (2, 3, 6), "past": (2, 2, 2, 3), "decay": (2, 3, 2), "beta": (2, 3, 2)}
_TABLES = {"words": (9, 6), "places": (7, 6), "segments": (2, 6), "gamma": (6,), "beta": (6,)}

CASES = [
    # element by element
    Case("Gelu", {"x": _X}),
    Case("QuickGelu", {"x": _X}, attrs={"alpha": 1.5}),
    Case("SampleOp", {"x": _X}),
    Case("ScaledSiLU", {"x": _X, "scale": np.array(2.0, np.float32)}),
    Case("MurmurHash3", {"x": _X}),
    Case("BiasGelu", {"x": _X, "bias": (6,)}),
    Case("FastGelu", {"x": _X, "bias": (6,)}),
    Case("FastGelu", {"x": _X}),
    Case("BiasAdd", {"x": _X, "bias": (6,), "skip": _X}, runs=False),
    Case("GatedAdd", {"x": _X, "y": _X, "gate": (2, 3, 1)}),
    Case("BiasSplitGelu", {"x": _X, "bias": (6,)}, runs=False),
    Case("BiasSoftmax", {"x": _X, "bias": (1, 1, 6)}, attrs={"axis": 2, "is_inner_broadcast": 0}, runs=False),
    Case("BiasDropout", {"x": _X, "bias": (6,), "residual": _X}, 2, runs=False),
    Case("BiasDropout", {"x": _X, "bias": (6,), "residual": None, "ratio": np.array(0.5, np.float32),
                         "training": np.array(True)}, 2, runs=False),
    # normalisation
    Case("SkipLayerNormalization", {"x": _X, "skip": _X, "gamma": (6,), "beta": (6,), "bias": (6,)}, 4),
    Case("SkipLayerNormalization", {"x": _X, "skip": (3, 6), "gamma": (6,)}),
    Case("SkipSimplifiedLayerNormalization", {"x": _X, "skip": _X, "gamma": (6,), "bias": (6,)}, 4),
    Case("SimplifiedLayerNormalization", {"x": _X, "scale": (6,)}, 2, {"axis": -1}, domain=""),
    Case("EmbedLayerNormalization", {"ids": np.zeros((2, 3), np.int32), "which": np.zeros((2, 3), np.int32), **_TABLES,
                                     "mask": np.ones((2, 3), np.int32)}, 3),
    Case("EmbedLayerNormalization", {"ids": np.zeros((2, 3), np.int32), "which": None, **_TABLES, "segments": None,
                                     "mask": None, "places_of": np.zeros((1, 3), np.int32)}, 2),
    Case("GroupNorm", {"x": (2, 4, 5, 6), "gamma": (6,), "beta": (6,)}, attrs={"groups": 3, "activation": 0},
         runs=False),
    Case("SkipGroupNorm", {"x": (2, 4, 5, 6), "gamma": (6,), "beta": (6,), "skip": (2, 6), "bias": (6,)}, 2,
         {"groups": 2, "activation": 1}, runs=False),
    Case("GatedRMSNorm", {"x": _X, "scale": (3,), "gate": _X}, attrs={"activation": "silu"}),
    Case("BranchwiseRMSNorm", {"x": (2, 4, 6), "scale": (4, 6)}),
    Case("BranchwiseRMSNorm", {"x": _X, "scale": (3,)}, attrs={"num_branches": 2}),
    # attention
    Case("Attention", {"x": (2, 3, 5), "w": (5, 18), "b": (18,)}, 2, {"num_heads": 2}),
    Case("Attention", {"x": (2, 3, 5), "w": (5, 14), "b": (14,), "mask": np.ones((2, 3), np.int32)},
         attrs={"num_heads": 2, "qkv_hidden_sizes": [4, 4, 6], "unidirectional": 1}),
    Case("Attention", {"x": (2, 1, 5), "w": (5, 18), "b": (18,), "mask": None, "past": (2, 2, 2, 4, 3)}, 2,
         {"num_heads": 2}),
    Case("Attention", {"x": (2, 3, 5), "w": (5, 18), "b": (18,), "mask": None, "past": None, "scores": (1, 2, 3, 3)},
         attrs={"num_heads": 2}),
    Case("PackedAttention", {"x": (5, 5), "w": (5, 18), "b": (18,), "offsets": np.zeros((2, 3), np.int32),
                             "ends": int32(0, 2, 5)}, attrs={"num_heads": 2}, runs=False),
    Case("MultiHeadAttention", {"q": (2, 3, 6), "k": (2, 4, 6), "v": (2, 4, 8), "bias": (20,)}, 3, {"num_heads": 2}),
    Case("MultiHeadAttention", {"q": (2, 3, 6), "k": (2, 3, 6), "v": (2, 3, 6), "bias": None, "mask": None,
                                "scores": (2, 2, 3, 7), "past_k": (2, 2, 4, 3), "past_v": (2, 2, 4, 3)}, 4,
         {"num_heads": 2}),
    Case("MultiHeadAttention", {"q": (2, 3, 6), "k": (2, 2, 4, 3), "v": (2, 2, 4, 3)}, attrs={"num_heads": 2}),
    Case("MultiHeadAttention", {"q": (2, 3, 2, 3, 4)}, attrs={"num_heads": 2}, runs=False),
    Case("MultiHeadAttention", {"q": (2, 3, 6), "k": (2, 4, 2, 2, 3)}, attrs={"num_heads": 2}, runs=False),
    Case("DecoderMaskedMultiHeadAttention", {
        "q": (2, 1, 6), "k": (2, 1, 6), "v": (2, 1, 6), "mask": None, "scores": None, "past_k": (2, 2, 4, 3),
        "past_v": (2, 2, 4, 3), "steps": int32(2)}, 3, {"num_heads": 2, "past_present_share_buffer": 1}),
    Case("GroupQueryAttention", _grouped(3, 0, 2), 3, _GQA),
    Case("GroupQueryAttention", _grouped(2, 4), 3, _GQA),
    Case("GroupQueryAttention", _grouped(2, 4, cos=(8, 8), sin=(8, 8)), 3, {**_GQA, "do_rotary": 1}),
    Case("GroupQueryAttention", {**_grouped(1, 4), "q": (1, 1, 64), "k": None, "v": None}, 3, _GQA),
    Case("RotaryEmbedding", {"x": (2, 3, 8), "ids": np.zeros((2, 3), np.int64), "cos": (5, 2), "sin": (5, 2)}),
    Case("RotaryEmbedding", {"x": (2, 2, 3, 6), "ids": int64(0), "cos": (5, 2), "sin": (5, 2)},
         attrs={"num_heads": 2, "rotary_embedding_dim": 4, "interleaved": 1}),
    Case("MRotaryEmbedding", {"x": (2, 3, 12), "ids": np.zeros((3, 2, 3), np.int64), "cos": (5, 3), "sin": (5, 3)},
         attrs={"mrope_section": [1, 1, 1], "num_heads": 2}),
    Case("RelativePositionBias", {"table": (4, 2), "s": int64(3), "t": int64(3)}, attrs={"max_distance": 8},
         runs=False),
    Case("LinearAttention", _LINEAR, 2, {"q_num_heads": 4, "kv_num_heads": 2}),
    Case("LinearAttention", {**_LINEAR, "past": None, "decay": (2, 3, 4)}, 2, {"q_num_heads": 4, "kv_num_heads": 2}),
    Case("LinearAttentionGate", {"a": _X, "bias": (6,), "scale": (6,), "b": _X}, 2),
    Case("CausalConvWithState", {"x": (2, 4, 5), "w": (4, 1, 3), "b": (4,), "past": (2, 4, 4)}, 2, {"dilation": 2}),
    Case("CausalConvWithState", {"x": (2, 5, 4), "w": (4, 1, 3)}, 2, {"channels_last": 1}),
    # experts
    Case("MoE", _MOE, attrs={"k": 2}),
    Case("MoE", {**_MOE, "fc1": (4, 10, 6), "b1": (4, 10)},
         attrs={"k": 1, "activation_type": "swiglu", "swiglu_fusion": 1}),
    # products
    Case("FusedMatMul", {"a": (2, 4, 3), "b": (2, 5, 4)}, attrs={"transA": 1, "transB": 1, "alpha": 0.5}),
    Case("FusedMatMul", {"a": (4, 2, 3), "b": (2, 3, 6)}, attrs={"transBatchA": 1}),
    Case("FusedMatMul", {"a": (4, 2, 3, 5), "b": (2, 3, 4, 6)}, attrs={"transBatchA": 1, "transA": 1}),
    Case("TransposeMatMul", {"a": (4, 3), "b": (2, 5, 4)}, attrs={"transA": 1, "transB": 1}),
    Case("FusedGemm", {"a": (4, 3), "b": (5, 3), "c": (5,)}, attrs={"transB": 1, "activation": "Relu"}),
    Case("GemmFastGelu", {"x": _X, "w": (6, 4), "bias": (4,)}, runs=False),
    Case("CDist", {"a": (4, 3), "b": (5, 3)}, attrs={"metric": "euclidean"}),
    Case("Inverse", {"x": (2, 3, 3)}),
    # images
    Case("FusedConv", {"x": _IMAGE, "w": (6, 4, 3, 3), "b": (6,), "z": (2, 6, 4, 3)}, attrs={"activation": "Relu"}),
    Case("FusedConv", {"x": _IMAGE, "w": (6, 2, 3, 3)},
         attrs={"activation": "Relu", "group": 2, "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    Case("NhwcConv", {"x": (2, 6, 5, 4), "w": (6, 4, 3, 3)}, runs=False),
    Case("NhwcFusedConv", {"x": (2, 6, 5, 4), "w": (6, 4, 3, 3), "b": (6,), "z": (2, 4, 3, 6)},
         attrs={"activation": "Relu"}, runs=False),
    Case("ConvTransposeWithDynamicPads", {"x": _IMAGE, "w": (4, 6, 3, 3), "pads": int64(0, 0, 0, 0), "b": (6,)}),
    Case("CropAndResize", {"x": _IMAGE, "boxes": (3, 4), "of": int32(0, 1, 0), "size": int32(2, 3)}),
    Case("GridSample", {"x": _IMAGE, "grid": (2, 3, 2, 2)}),
    # moving elements
    Case("GatherND", {"x": (4, 3), "at": np.array([[0], [2]], np.int64)}),
    Case("Pad", {"x": (4, 3), "pads": int64(1, 0, 0, 2)}),
    Case("ExpandDims", {"x": (4, 3), "axis": scalar(1)}),
    Case("ExpandDims", {"x": (4, 3), "axis": scalar(-1)}),
    Case("Trilu", {"x": (2, 3, 4)}),
    Case("UnfoldTensor", {"x": (2, 7, 4)}, attrs={"dim": 1, "size": 3, "step": 2}),
    Case("Range", {"from": scalar(1), "to": scalar(9), "by": scalar(3)}),
    # left alone
    Case("HyperConnectionPreMix", {"x": (2, 3, 4, 6), "mix": (2, 3, 4)}),
    Case("HyperConnectionPostMix", {"x": (2, 3, 4, 6), "block": (2, 3, 6), "post": (2, 3, 4), "mix": (2, 3, 4, 4)}),
    Case("EngramGate", {"k": (2, 3, 4, 6), "q": (2, 3, 4, 6), "v": (2, 3, 6), "ks": (4, 6), "qs": (4, 6),
                        "cs": (4, 6)}, 2),
    Case("NGramRepeatBlock", {"ids": np.zeros((2, 3), np.int64), "scores": (2, 6)}, attrs={"ngram_size": 2}),
]  # fmt: skip
