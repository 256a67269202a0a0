"""Small networks with what the walk through layers has to deal with, and data for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx.helper import make_node

from tests.support.models import make_model


def residual_net() -> onnx.ModelProto:
    """Convolutions with a shortcut, a depthwise one, and a matrix product with its bias in an Add behind it."""
    rng = np.random.default_rng(4)

    def weight(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    nodes = [
        make_node("Conv", ["x", "w0", "b0"], ["c0"], pads=[1, 1, 1, 1]), make_node("Relu", ["c0"], ["r0"]),
        make_node("Conv", ["r0", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]), make_node("Relu", ["c1"], ["r1"]),
        make_node("Conv", ["r1", "wd", "bd"], ["cd"], pads=[1, 1, 1, 1], group=16), make_node("Relu", ["cd"], ["rd"]),
        make_node("Conv", ["rd", "w2", "b2"], ["c2"]), make_node("Add", ["c2", "r0"], ["s"]),
        make_node("Relu", ["s"], ["r2"]), make_node("GlobalAveragePool", ["r2"], ["p"]),
        make_node("Flatten", ["p"], ["f"]), make_node("MatMul", ["f", "w3"], ["m"]),
        make_node("Add", ["m", "b3"], ["y"]),
    ]  # fmt: skip
    weights = {
        "w0": weight(16, 3, 3, 3), "b0": weight(16), "w1": weight(16, 16, 3, 3), "b1": weight(16),
        "wd": weight(16, 1, 3, 3), "bd": weight(16), "w2": weight(16, 16, 1, 1), "b2": weight(16),
        "w3": weight(16, 8), "b3": weight(8),
    }  # fmt: skip
    return make_model(nodes, {"x": ["n", 3, 8, 8]}, ["y"], weights)


def samples(path: Path, count: int = 64, size: int = 8) -> Path:
    """Images that are alike within themselves, so that inputs of layers are correlated."""
    rng = np.random.default_rng(8)
    coarse = rng.normal(size=(count, 3, size // 2, size // 2)).repeat(2, axis=2).repeat(2, axis=3)
    np.savez(path, x=(coarse + 0.3 * rng.normal(size=(count, 3, size, size))).astype(np.float32))
    return path
