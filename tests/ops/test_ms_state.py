"""Causal convolution of com.microsoft, with a state that is carried from call to call, and gates of attention."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.helper import make_node

from onnxprune.graph.contrib import MICROSOFT
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly
from tests.support.sandwich import one_by_one

Weights = dict[str, np.ndarray | list[int]]
STEPS, WIDTH = 3, 5


def test_gates_of_linear_attention_go_by_head() -> None:
    nodes = [
        make_node("MatMul", ["x", "wa"], ["a"]),
        make_node("MatMul", ["x", "wb"], ["b"]),
        make_node("LinearAttentionGate", ["a", "bias", "scale", "b"], ["decay", "beta"], domain=MICROSOFT),
        make_node("Mul", ["decay", "beta"], ["y"]),
        make_node("MatMul", ["y", "wo"], ["out"]),
    ]
    weights: Weights = {"wa": [WIDTH, 4], "wb": [WIDTH, 4], "bias": [4], "scale": [4], "wo": [4, 3]}
    coupling = assert_prunes_exactly(make_model(nodes, {"x": [2, STEPS, WIDTH]}, ["out"], weights))
    assert units(coupling) == {"wa:1": one_by_one(4, "wa:1", "wb:1", "bias:0", "scale:0", "wo:0")}


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("past", [False, True])
def test_causal_convolution_goes_channel_by_channel(last: int, past: bool) -> None:
    first = [make_node("MatMul", ["x", "w1"], ["h"] if last else ["t"])]
    then = [make_node("MatMul", ["y", "w2"], ["out"])]
    if not last:
        first.append(make_node("Transpose", ["t"], ["h"], perm=[0, 2, 1]))
        then = [make_node("Transpose", ["y"], ["u"], perm=[0, 2, 1]), make_node("MatMul", ["u", "w2"], ["out"])]
    inputs = ["h", "w", "b"] + (["past"] if past else [])
    node = make_node(
        "CausalConvWithState",
        inputs,
        ["y", "next"],
        domain=MICROSOFT,
        activation="silu",
        channels_last=last,
        dilation=2,
    )
    weights: Weights = {"w1": [WIDTH, 6], "w": [6, 1, 3], "b": [6], "w2": [6, 4]}
    if past:
        weights["past"] = [2, 4, 6] if last else [2, 6, 4]
    model = make_model([*first, node, *then], {"x": [2, STEPS, WIDTH]}, ["out"], weights)
    coupling = assert_prunes_exactly(model)
    every = ["w1:1", "w:0", "b:0", "w2:0"] + ([f"past:{2 if last else 1}"] if past else [])
    assert units(coupling) == {"w1:1": one_by_one(6, *every)}
    assert coupling.cost().macs == 2 * STEPS * (WIDTH * 6 + 6 * 3 + 6 * 4)
