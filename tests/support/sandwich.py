"""The operators under test between two layers: what one makes and the other reads is free to go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx.helper import make_node

from tests.support.models import DEFAULT_OPSET, make_model

WIDTH = 6
IMAGE = [2, 3, 4, 5]
ROWS = [2, 5, 3]
Weights = Mapping[str, np.ndarray | Sequence[int]]


def between_convs(
    nodes: Sequence[onnx.NodeProto],
    weights: Weights | None = None,
    *,
    width: int = WIDTH,
    reads: int | None = None,
    opset: int = DEFAULT_OPSET,
) -> onnx.ModelProto:
    """x [2, 3, 4, 5] -> Conv w1, b1 -> h [2, width, 4, 5] -> `nodes` -> y -> Conv w2 (of `reads` channels) -> out."""
    model = make_model(
        [make_node("Conv", ["x", "w1", "b1"], ["h"]), *nodes, make_node("Conv", ["y", "w2"], ["out"])],
        {"x": IMAGE},
        ["out"],
        {"w1": [width, 3, 1, 1], "b1": [width], "w2": [4, reads or width, 1, 1], **(weights or {})},
        opset=opset,
    )
    return _with_rank(model, len(IMAGE))


def between_matmuls(
    nodes: Sequence[onnx.NodeProto],
    weights: Weights | None = None,
    *,
    width: int = WIDTH,
    reads: int | None = None,
    opset: int = DEFAULT_OPSET,
) -> onnx.ModelProto:
    """x [2, 5, 3] -> MatMul w1, Add b1 -> h [2, 5, width] -> `nodes` -> y -> MatMul w2 (of `reads` rows) -> out."""
    model = make_model(
        [
            make_node("MatMul", ["x", "w1"], ["product"]),
            make_node("Add", ["product", "b1"], ["h"]),
            *nodes,
            make_node("MatMul", ["y", "w2"], ["out"]),
        ],
        {"x": ROWS},
        ["out"],
        {"w1": [3, width], "b1": [width], "w2": [reads or width, 4], **(weights or {})},
        opset=opset,
    )
    return _with_rank(model, len(ROWS))


def _with_rank(model: onnx.ModelProto, rank: int) -> onnx.ModelProto:
    """State the output's rank where onnx infers nothing (GroupNormalization): its checker asks for it."""
    for output in model.graph.output:
        if not output.type.tensor_type.HasField("shape"):
            for _ in range(rank):
                output.type.tensor_type.shape.dim.add()
    return model


def taking(indices: Sequence[int], *axes: str) -> dict[str, list[int]]:
    """A unit that takes the same indices of every named axis."""
    return {axis: list(indices) for axis in axes}


def one_by_one(count: int, *axes: str) -> list[dict[str, list[int]]]:
    """Unit i takes index i of every named axis: `one_by_one(2, "w:0")` is `[{"w:0": [0]}, {"w:0": [1]}]`."""
    return [taking([index], *axes) for index in range(count)]
