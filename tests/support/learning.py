"""Small classifiers and data that they can learn in a second: which of three directions a point lies in, say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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


def convolutional(**changes: Any) -> onnx.ModelProto:
    """x [N, 3, 6, 6] -> Conv a 3x3 -> Relu -> Conv b 3x3 by groups -> Relu -> mean over places -> Gemm -> y [N, 4].

    Channels of a differ in scale by factors of a hundred. With `bias=False` b has none; `batch_norm` follows a.
    """
    rng = np.random.default_rng(3)
    scales = np.array([0.01, 0.1, 1, 0.5, 3, 0.02], np.float32)
    weights = {
        "wa": rng.normal(size=(6, 3, 3, 3)).astype(np.float32) * scales[:, None, None, None],
        "ba": rng.normal(size=6).astype(np.float32),
        "wb": rng.normal(size=(8, 3, 3, 3)).astype(np.float32) * 0.3,
        "bb": rng.normal(size=8).astype(np.float32),
        "wc": rng.normal(size=(4, 8)).astype(np.float32),
    }
    after = "norm" if changes.get("batch_norm") else "a"
    nodes = [
        helper.make_node("Conv", ["x", "wa", "ba"], ["a"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", [after], ["ra"]),
        helper.make_node("Conv", ["ra", "wb", "bb"] if changes.get("bias", True) else ["ra", "wb"], ["b"], group=2),
        helper.make_node("Relu", ["b"], ["rb"]),
        helper.make_node("GlobalAveragePool", ["rb"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "wc"], ["y"], transB=1),
    ]
    if changes.get("batch_norm"):
        weights |= {f"n{k}": np.ones(6, np.float32) for k in range(4)}
        nodes.insert(1, helper.make_node("BatchNormalization", ["a", "n0", "n1", "n2", "n3"], ["norm"]))
    if not changes.get("bias", True):
        del weights["bb"]
    return make_model(nodes, {"x": ["N", 3, 6, 6]}, ["y"], weights)


def write_images(path: Path, count: int = 96, seed: int = 1) -> Path:
    """Images (float32 [count, 3, 6, 6]) whose classes are the quarter that is brightest, as a .npz."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    x = rng.normal(size=(count, 3, 6, 6)).astype(np.float32)
    for image, label in zip(x, labels, strict=True):
        image[:, label // 2 * 3 : label // 2 * 3 + 3, label % 2 * 3 : label % 2 * 3 + 3] += 2
    np.savez(path, x=x, labels=labels)
    return path
