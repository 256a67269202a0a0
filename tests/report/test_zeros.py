"""Zeros of weights, by parts along the first axis; none where nothing is sparse."""

from __future__ import annotations

import numpy as np
from onnx import helper, numpy_helper

from onnxprune.graph.model import Model
from onnxprune.report.zeros import Zeros, zeros_of


def model(**weights: np.ndarray) -> Model:
    graph = helper.make_graph([], "g", [], [], [numpy_helper.from_array(w, name) for name, w in weights.items()])
    return Model(helper.make_model(graph))


def test_zeros() -> None:
    w = np.ones((64, 2, 2), np.float32)
    w[:32] = 0
    b = np.ones((3, 4), np.float16)
    b[1, :2] = 0
    vector, whole = np.zeros(5, np.float32), np.zeros((2, 2), np.int64)
    assert zeros_of(model(w=w, b=b, vector=vector, whole=whole)) == [
        Zeros("w", (64, 2, 2), 0.5, (1.0,) * 16 + (0.0,) * 16),
        Zeros("b", (3, 4), 2 / 12, (0.0, 0.5, 0.0)),
    ]


def test_a_zero_here_and_there_is_no_sparsity() -> None:
    w = np.ones((10, 10), np.float32)
    w[0, :4] = 0
    assert zeros_of(model(w=w)) == []
    assert zeros_of(model(empty=np.zeros((0, 3), np.float32))) == []
