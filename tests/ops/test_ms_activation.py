"""Activations of com.microsoft are elementwise; biases and residuals that are added first go along."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.graph.contrib import MICROSOFT
from tests.support.models import units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import pruned, shapes
from tests.support.sandwich import WIDTH, between_matmuls, one_by_one

EVERY = ("w1:1", "b1:0", "w2:0")


def act(op: str, inputs: list[str], outputs: tuple[str, ...] = ("y",), **attrs: Any) -> onnx.NodeProto:
    return make_node(op, inputs, list(outputs), domain=MICROSOFT, **attrs)


@pytest.mark.parametrize(
    ("op", "attrs"), [("Gelu", {}), ("QuickGelu", {"alpha": 1.7}), ("FastGelu", {}), ("ScaledSiLU", {"alpha": 0.5})]
)
def test_alone(op: str, attrs: dict[str, float]) -> None:
    coupling = assert_prunes_exactly(between_matmuls([act(op, ["h"], **attrs)]))
    assert units(coupling) == {"w1:1": one_by_one(WIDTH, *EVERY)}
    assert coupling.groups[0].exact


def test_a_scale_that_is_one_number() -> None:
    model = between_matmuls([act("ScaledSiLU", ["h", "s"])], {"s": np.array(0.7, np.float32)})
    assert units(assert_prunes_exactly(model)) == {"w1:1": one_by_one(WIDTH, *EVERY)}


@pytest.mark.parametrize("op", ["BiasGelu", "FastGelu"])
def test_with_a_bias(op: str) -> None:
    coupling = assert_prunes_exactly(between_matmuls([act(op, ["h", "b"])], {"b": [WIDTH]}))
    assert units(coupling) == {"w1:1": one_by_one(WIDTH, *EVERY, "b:0")}


def test_a_gated_sum_is_a_residual_stream() -> None:
    nodes = [
        make_node("MatMul", ["x", "w3"], ["other"]),
        make_node("MatMul", ["x", "w4"], ["gate"]),
        act("GatedAdd", ["h", "other", "gate"]),
    ]
    coupling = assert_prunes_exactly(between_matmuls(nodes, {"w3": [3, WIDTH], "w4": [3, 1]}))
    assert units(coupling) == {"w1:1": one_by_one(WIDTH, *EVERY, "w3:1")}
    assert coupling.groups[0].kind == "width"


# -- the CPU build has no kernels for these ------------------------------------------------------------------------


def test_bias_and_residual() -> None:
    nodes = [make_node("MatMul", ["x", "w3"], ["other"]), act("BiasAdd", ["h", "b", "other"])]
    coupling = analyse(between_matmuls(nodes, {"w3": [3, WIDTH], "b": [WIDTH]}))
    assert units(coupling) == {"w1:1": one_by_one(WIDTH, *EVERY, "w3:1", "b:0")}


def test_halves_of_a_split_gelu_go_together() -> None:
    model = between_matmuls([act("BiasSplitGelu", ["h", "b"])], {"b": [WIDTH]}, reads=3)
    assert units(analyse(model)) == {
        "w1:1": [{"w1:1": [i, 3 + i], "b1:0": [i, 3 + i], "b:0": [i, 3 + i], "w2:0": [i]} for i in range(3)]
    }
    assert shapes(pruned(model, {"w1:1": [0, 2]})) == {"w1": (3, 4), "b1": (4,), "b": (4,), "w2": (2, 4)}


@pytest.mark.parametrize("axis", [2, 1])
def test_a_distribution_mixes(axis: int) -> None:
    node = act("BiasSoftmax", ["h", "b"], axis=axis, is_inner_broadcast=0)
    coupling = analyse(between_matmuls([node], {"b": [1, 1, WIDTH]}))
    assert units(coupling) == {"w1:1": one_by_one(WIDTH, *EVERY, "b:2")}
    assert [(g.exact, g.mixes) for g in coupling.groups] == [(False, ("Softmax runs over it",))]


def test_a_bias_of_another_rank_freezes() -> None:
    model = between_matmuls([act("BiasSoftmax", ["h", "b"], axis=2, is_inner_broadcast=0)], {"b": [WIDTH]})
    assert analyse(model).groups == ()


@pytest.mark.parametrize(
    ("training", "mixes"), [(None, ()), (False, ()), (True, ("random numbers are drawn over it",))]
)
def test_dropout_with_bias_and_residual(training: bool | None, mixes: tuple[str, ...]) -> None:
    inputs, weights = ["h", "b", "other"], {"w3": [3, WIDTH], "b": [WIDTH]}
    if training is not None:
        inputs += ["ratio", "training"]
        weights |= {"ratio": np.array(0.5, np.float32), "training": np.array(training)}
    nodes = [make_node("MatMul", ["x", "w3"], ["other"]), act("BiasDropout", inputs)]
    coupling = analyse(between_matmuls(nodes, weights))
    assert units(coupling) == {"w1:1": one_by_one(WIDTH, *EVERY, "w3:1", "b:0")}
    assert coupling.groups[0].mixes == mixes


def test_a_domain_that_is_not_imported_is_taken_at_its_first_version() -> None:
    """onnx's checker refuses such a file, ONNX Runtime loads it."""
    model = between_matmuls([act("BiasGelu", ["h", "b"])], {"b": [WIDTH]})
    del model.opset_import[1]
    assert [o.domain for o in model.opset_import] == [""]
    coupling = assert_prunes_exactly(model)
    assert units(coupling) == {"w1:1": one_by_one(WIDTH, *EVERY, "b:0")}
