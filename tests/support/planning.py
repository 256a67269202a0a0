"""Models to plan on, with costs that one can work out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper

from tests.support.models import make_model

PIXELS = 64


def conv_chain(widths: Sequence[int] = (32, 16), classes: int = 5) -> onnx.ModelProto:
    """X [1, 3, 8, 8] through 1x1 convolutions w0, w1, ... of `widths` outputs with ReLU, then one of `classes`.

    Parameters are the products of neighbouring widths (3 first, `classes` last); MACs 64 times as many.
    """
    nodes, weights, value, before = [], {}, "x", 3
    for k, width in enumerate(widths):
        nodes.append(helper.make_node("Conv", [value, f"w{k}"], [f"c{k}"], name=f"conv{k}"))
        nodes.append(helper.make_node("Relu", [f"c{k}"], [f"r{k}"], name=f"relu{k}"))
        weights[f"w{k}"] = (width, before, 1, 1)
        value, before = f"r{k}", width
    nodes.append(helper.make_node("Conv", [value, "head"], ["y"], name="classify"))
    weights["head"] = (classes, before, 1, 1)
    return make_model(nodes, {"x": (1, 3, 8, 8)}, ["y"], weights)


def two_factors(part: int = 0) -> onnx.ModelProto:
    """Two heads of four dims, each head with a matrix of its own: `w` [3, 8], `per_head` [2, 4, 3].

    With `part`, the first that many of the flat eight are read beside them, by `out_part` [part, 2]: with six, head 1
    and the last two dims alone would leave nothing of these.
    """
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["flat"], name="project"),
        helper.make_node("Reshape", ["flat", "split"], ["grid"], name="split_heads"),
        helper.make_node("Transpose", ["grid"], ["heads"], perm=[1, 0, 2], name="heads_first"),
        helper.make_node("MatMul", ["heads", "per_head"], ["mixed"], name="mix"),
        helper.make_node("ReduceSum", ["mixed", "zero"], ["y"], keepdims=0, name="sum_heads"),
    ]
    weights = {"w": (3, 8), "per_head": (2, 4, 3), "split": int64(5, 2, 4), "zero": int64(0)}
    outputs = ["y"]
    if part:
        nodes += [
            helper.make_node("Slice", ["flat", "zero", "end", "one"], ["part"], name="first_part"),
            helper.make_node("MatMul", ["part", "out_part"], ["z"], name="read_part"),
        ]
        weights |= {"out_part": (part, 2), "end": int64(part), "one": int64(1)}
        outputs.append("z")
    return make_model(nodes, {"x": (5, 3)}, outputs, weights)


def int64(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)
