"""A small classifier and data that it can learn in a second: which of three directions a point lies in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from tests.support.models import make_model

CLASSES, FEATURES, HIDDEN = 3, 6, 16


def classifier(hidden: int = HIDDEN, zero: float = 0.0) -> onnx.ModelProto:
    """x [N, 6] -> MatMul w0 [6, hidden] + b0, Relu, Gemm w1 [3, hidden] transposed + b1 -> y [N, 3].

    With `zero` that share of w0 is exactly zero.
    """
    rng = np.random.default_rng(5)
    w0 = rng.normal(size=(FEATURES, hidden)).astype(np.float32) * 0.5
    w0[rng.random(w0.shape) < zero] = 0
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["m"], name="first"),
        helper.make_node("Add", ["m", "b0"], ["a"], name="bias"),
        helper.make_node("Relu", ["a"], ["r"], name="relu"),
        helper.make_node("Gemm", ["r", "w1", "b1"], ["y"], name="last", transB=1),
    ]
    w1 = rng.normal(size=(CLASSES, hidden)).astype(np.float32) * 0.1
    weights = {"w0": w0, "b0": np.zeros(hidden, np.float32), "w1": w1, "b1": np.zeros(CLASSES, np.float32)}
    return make_model(nodes, {"x": ["N", FEATURES]}, ["y"], weights)


def points(count: int = 240, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Points (float32 [count, 6]) around three centres, and which (int64 [count])."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    centres = np.random.default_rng(0).normal(size=(CLASSES, FEATURES)) * 2
    return (centres[labels] + rng.normal(size=(count, FEATURES))).astype(np.float32), labels.astype(np.int64)


def write_points(path: Path, *, labelled: bool = True, count: int = 240, seed: int = 1) -> Path:
    """The points as a .npz that onnxprune reads."""
    x, labels = points(count, seed)
    np.savez(path, x=x, **({"labels": labels} if labelled else {}))
    return path
