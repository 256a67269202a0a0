"""ArgMax, ArgMin, TopK: the axis that is ranked stays, the others do not mind."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.helper import make_node

from onnxprune.analyse import analyse
from tests.support.models import units
from tests.support.oracle import assert_prunes_exactly
from tests.support.sandwich import WIDTH, between_convs, between_matmuls, one_by_one

GIVEN_OUT = "positions along it are given out as indices"
K = np.array([2])


def arg(op: str, **attrs: int) -> list[onnx.NodeProto]:
    """y = exp(position), so that position 0 counts."""
    return [
        make_node(op, ["h"], ["i"], **attrs),
        make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        make_node("Exp", ["f"], ["y"]),
    ]


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("axis", [2, -2])
def test_other_axes_than_the_ranked_one_are_exact(op: str, opset: int, axis: int) -> None:
    coupling = assert_prunes_exactly(between_convs(arg(op, axis=axis), opset=opset))
    assert units(coupling) == {"w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w2:1")}
    assert [g.exact for g in coupling.groups] == [True]


def test_the_first_axis_is_ranked_unless_told() -> None:
    coupling = assert_prunes_exactly(between_convs(arg("ArgMax")))
    assert [(g.size, g.exact) for g in coupling.groups] == [(WIDTH, True)]


def test_without_keepdims_the_axes_close_ranks() -> None:
    coupling = assert_prunes_exactly(between_matmuls(arg("ArgMin", axis=1, keepdims=0)))
    assert units(coupling) == {"w1:1": one_by_one(WIDTH, "w1:1", "b1:0", "w2:0")}


@pytest.mark.parametrize("keepdims", [0, 1])
def test_classes_that_are_ranked_stay(keepdims: int) -> None:
    nodes = arg("ArgMax", axis=-1, keepdims=keepdims)
    coupling = analyse(between_matmuls(nodes, reads=1 if keepdims else 5))
    assert coupling.groups == ()
    assert {(r.tensor, r.axis): r.why for r in coupling.refusals}["w1", 1] == f"{GIVEN_OUT} [h:2]"


@pytest.mark.parametrize("opset", [10, 11, 17, 24])
def test_top_k_of_another_axis_is_exact(opset: int) -> None:
    nodes = [
        make_node("TopK", ["h", "k"], ["values", "indices"], axis=2),
        make_node("Cast", ["indices"], ["positions"], to=TensorProto.FLOAT),
        make_node("Mul", ["values", "positions"], ["y"]),
    ]
    coupling = assert_prunes_exactly(between_convs(nodes, {"k": K}, opset=opset))
    assert units(coupling) == {"w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w2:1")}
    assert [g.exact for g in coupling.groups] == [True]


def test_top_k_of_the_channels_keeps_them() -> None:
    coupling = analyse(between_matmuls([make_node("TopK", ["h", "k"], ["y", "i"])], {"k": K}, reads=2))
    assert coupling.groups == ()
    reasons = {(r.tensor, r.axis): r.why for r in coupling.refusals}
    assert reasons["w1", 1] == f"{GIVEN_OUT} [h:2]"
    assert reasons["w2", 0] == "the k largest or smallest, in order [y:2]"


def test_k_as_an_attribute() -> None:
    coupling = analyse(between_convs([make_node("TopK", ["h"], ["y", "i"], axis=3, k=2)], opset=8))
    assert units(coupling) == {"w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w2:1")}
