"""Random numbers per element: the axes are the input's, the numbers are others."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from tests.support.models import units
from tests.support.oracle import assert_prunes_exactly
from tests.support.sandwich import WIDTH, between_matmuls, one_by_one

DRAWN = ("random numbers are drawn over it",)


@pytest.mark.parametrize(
    "nodes",
    [
        [make_node("RandomNormalLike", ["h"], ["r"], seed=1.0), make_node("Add", ["h", "r"], ["y"])],
        [make_node("RandomUniformLike", ["h"], ["r"], seed=1.0), make_node("Mul", ["h", "r"], ["y"])],
        [
            make_node("Sigmoid", ["h"], ["p"]),
            make_node("Bernoulli", ["p"], ["r"], seed=1.0),
            make_node("Mul", ["h", "r"], ["y"]),
        ],
    ],
    ids=lambda nodes: next(n.op_type for n in nodes if "r" in n.output),
)
def test_drawn_like_an_input(nodes: list[onnx.NodeProto]) -> None:
    coupling = assert_prunes_exactly(between_matmuls(nodes))
    assert units(coupling) == {"w1:1": one_by_one(WIDTH, "w1:1", "b1:0", "w2:0")}
    assert [g.mixes for g in coupling.groups] == [DRAWN]


@pytest.mark.parametrize(("training", "mixes"), [(False, ()), (True, DRAWN)])
def test_dropout_draws_in_training_only(training: bool, mixes: tuple[str, ...]) -> None:
    node = make_node("Dropout", ["h", "ratio", "training"], ["y", "mask"])
    weights = {"ratio": np.array(0.5, np.float32), "training": np.array(training)}
    coupling = assert_prunes_exactly(between_matmuls([node], weights))
    assert units(coupling) == {"w1:1": one_by_one(WIDTH, "w1:1", "b1:0", "w2:0")}
    assert [g.mixes for g in coupling.groups] == [mixes]
