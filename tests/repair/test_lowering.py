"""Convolutions as matrix products over whole maps: what ONNX Runtime gives, and adjoints that are adjoint."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

from onnxprune.analyse import analyse
from onnxprune.repair.lowering import Lowering
from onnxprune.runtime.consumers import consumers_of
from tests.support.models import make_model
from tests.support.oracle import run
from tests.support.repairing import normal

CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "padded": ((4, 7, 6), (5, 4, 3, 3), {"pads": [1, 1, 1, 1]}),
    "strided": ((4, 7, 6), (5, 4, 3, 3), {"pads": [1, 0, 1, 2], "strides": [2, 2]}),
    "strided point": ((4, 7, 6), (5, 4, 1, 1), {"strides": [2, 3]}),
    "point": ((4, 7, 6), (5, 4, 1, 1), {}),
    "dilated": ((4, 9, 9), (5, 4, 3, 2), {"dilations": [2, 3]}),
    "grouped": ((6, 5, 5), (4, 3, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    "depthwise": ((6, 5, 5), (6, 1, 3, 3), {"group": 6, "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    "same upper": ((4, 8, 7), (5, 4, 4, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "same lower": ((4, 8, 7), (5, 4, 4, 3), {"auto_pad": "SAME_LOWER", "strides": [3, 2]}),
    "valid": ((4, 8, 7), (5, 4, 4, 3), {"auto_pad": "VALID"}),
    "one axis": ((4, 9), (5, 4, 3), {"pads": [2, 1]}),
    "three axes": ((4, 5, 4, 3), (5, 4, 2, 2, 2), {"pads": [1, 0, 0, 0, 1, 1]}),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[Lowering, np.ndarray, np.ndarray, np.ndarray]:
    """The layer, its matrix, some samples, and what ONNX Runtime gives for them; maps have samples last."""
    shape, kernel, attrs = CASES[request.param]
    weight, x = normal(*kernel, seed=1), normal(3, *shape)
    entry = helper.make_node("Conv", ["x", "e"], ["h"])
    node = helper.make_node("Conv", ["h", "w"], ["y"], **attrs)
    eye = np.eye(shape[0], dtype=np.float32).reshape(shape[0], shape[0], *[1] * (len(shape) - 1))
    model = make_model([entry, node], {"x": ("n", *shape)}, ["y"], {"e": eye, "w": weight})
    coupling = analyse(model)
    (consumer,) = (c for c in consumers_of(coupling, every=True) if c.weight == "w")
    given = run(coupling.view.model, {"x": x})[0]
    return Lowering(consumer, shape[1:]), consumer.matrix(weight), np.moveaxis(x, 0, -1), np.moveaxis(given, 0, -1)


def test_it_gives_what_onnx_runtime_gives(case: tuple[Lowering, np.ndarray, np.ndarray, np.ndarray]) -> None:
    layer, matrix, x, expected = case
    assert layer.output == expected.shape[1:-1]
    np.testing.assert_allclose(layer.apply(layer.lower(x), matrix), expected, atol=1e-4)


def test_adjoints_are_adjoint(case: tuple[Lowering, np.ndarray, np.ndarray, np.ndarray]) -> None:
    layer, matrix, x, expected = case
    back, other_x, other_matrix = normal(*expected.shape, seed=3), normal(*x.shape, seed=4), normal(*matrix.shape)
    read = layer.lower(x)
    there = float((layer.apply(read, other_matrix) * back).sum(dtype=np.float64))
    assert float((layer.weigh(read, back) * other_matrix).sum(dtype=np.float64)) == pytest.approx(there, rel=1e-4)
    there = float((layer.apply(layer.lower(other_x), matrix) * back).sum(dtype=np.float64))
    assert float((layer.spread(back, matrix) * other_x).sum(dtype=np.float64)) == pytest.approx(there, rel=1e-4)
