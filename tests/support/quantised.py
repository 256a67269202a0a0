"""Quantised numbers, and operators on 8-bit tensors between two layers: what one makes and the other reads may go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx.helper import make_node

from tests.support.models import make_model

MICROSOFT = "com.microsoft"
RNG_SEED = 11
Weights = Mapping[str, np.ndarray | Sequence[int]]


def int8(*shape: int, seed: int = RNG_SEED) -> np.ndarray:
    """Seven bits: without VNNI, the CPU's products saturate sums of two at 16 bits, 255 * 64 * 2 being just within.

    A pair that saturates gives another sum when its neighbour goes, so no test to the bit may meet one.
    """
    return np.random.default_rng(seed).integers(-64, 65, shape).astype(np.int8)


def uint8(*shape: int, seed: int = RNG_SEED) -> np.ndarray:
    return np.random.default_rng(seed).integers(20, 230, shape).astype(np.uint8)


def int32(*shape: int, seed: int = RNG_SEED) -> np.ndarray:
    return np.random.default_rng(seed).integers(-900, 900, shape).astype(np.int32)


def scales(*shape: int, seed: int = RNG_SEED) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.005, 0.02, shape).astype(np.float32)


def scalar(value: float, dtype: type = np.float32) -> np.ndarray:
    return np.array(value, dtype)


def ms_node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attrs: object) -> onnx.NodeProto:
    """A node of com.microsoft."""
    return make_node(op, inputs, outputs, domain=MICROSOFT, **attrs)


def ms_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str | None]],
    weights: Weights,
    *,
    opset: int = 17,
    rank: int | None = None,
    **options: object,
) -> onnx.ModelProto:
    """A model with output `out`, of a rank that onnx may not be able to infer."""
    model = make_model(nodes, inputs, ["out"], weights, opset=opset, opsets={MICROSOFT: 1}, **options)
    (output,) = model.graph.output
    if not output.type.tensor_type.HasField("shape") and rank is not None:
        for _ in range(rank):
            output.type.tensor_type.shape.dim.add()
    return model


def between_qconvs(
    nodes: Sequence[onnx.NodeProto],
    weights: Weights | None = None,
    *,
    width: int = 6,
    reads: int | None = None,
) -> onnx.ModelProto:
    """x [1, 3, 6, 6] -> 8 bits -> QLinearConv w1 -> h [1, width, 6, 6] -> `nodes` -> y -> QLinearConv w2 -> out.

    Everything between is uint8 of scale `s` and zero point `z` (131); the kernels are int8 with a scale a channel.
    """
    first = ["q", "s", "z", "w1", "s1", "z1", "s", "z", "b1"]
    last = ["y", "s", "z", "w2", "s2", "z2", "s", "z"]
    return ms_model(
        [
            make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            make_node("QLinearConv", first, ["h"]),
            *nodes,
            make_node("QLinearConv", last, ["r"]),
            make_node("DequantizeLinear", ["r", "s", "z"], ["out"]),
        ],
        {"x": [1, 3, 6, 6]},
        {
            "s": scalar(0.03), "z": scalar(131, np.uint8),
            "w1": int8(width, 3, 1, 1), "s1": scales(width), "z1": np.zeros(width, np.int8), "b1": int32(width),
            "w2": int8(4, reads or width, 1, 1, seed=2), "s2": scales(4), "z2": np.zeros(4, np.int8),
            **(weights or {}),
        },
        rank=4,
    )  # fmt: skip


FIRST = ("w1:0", "s1:0", "z1:0", "b1:0")
"""Axes of which a channel of `h` takes an index."""
