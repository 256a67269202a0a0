"""Mixtures of experts of com.microsoft: whole experts mix, hidden units of all experts are exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.graph.contrib import MICROSOFT
from onnxprune.ops.ms_experts import ROUTED
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import attributes, pruned, shapes

Weights = dict[str, np.ndarray | list[int]]
TOKENS, WIDTH, EXPERTS, HIDDEN = 7, 6, 4, 5


def mixture(*, rows: int = HIDDEN, k: int = 2, gate: bool = False, **attrs: Any) -> onnx.ModelProto:
    """x [7, 3] -> 6 columns h, and scores of 4 experts from x -> MoE of 5 hidden units -> a projection to 2."""
    inputs = ["h", "scores", "fc1", "b1", "fc2", "b2"]
    weights: Weights = {
        "w0": [3, WIDTH], "wr": [3, EXPERTS], "fc1": [EXPERTS, rows, WIDTH], "b1": [EXPERTS, rows],
        "fc2": [EXPERTS, WIDTH, HIDDEN], "b2": [EXPERTS, WIDTH], "wo": [WIDTH, 2],
    }  # fmt: skip
    if gate:
        inputs += ["fc3", "b3"]
        weights |= {"fc3": [EXPERTS, HIDDEN, WIDTH], "b3": [EXPERTS, HIDDEN]}
    nodes = [
        make_node("MatMul", ["x", "w0"], ["h"]),
        make_node("MatMul", ["x", "wr"], ["scores"]),
        make_node("MoE", inputs, ["y"], domain=MICROSOFT, k=k, **attrs),
        make_node("MatMul", ["y", "wo"], ["out"]),
    ]
    return make_model(nodes, {"x": [TOKENS, 3]}, ["out"], weights)


def by_kind(model: onnx.ModelProto, **options: Any) -> dict[str, list[dict[str, list[int]]]]:
    coupling = analyse(model, **options)
    found = units(coupling)
    return {g.kind: found[g.name] for g in coupling.groups}


def test_units() -> None:
    model = mixture(activation_type="relu")
    coupling = analyse(model)
    assert [(g.size, g.exact, g.mixes) for g in coupling.groups] == [
        (WIDTH, True, ()), (EXPERTS, False, (ROUTED,)), (HIDDEN, True, ()),
    ]  # fmt: skip
    width, experts, hidden = units(coupling).values()
    columns = ("w0:1", "fc1:2", "fc2:1", "b2:1", "wo:0")  # what comes out must be as wide as what goes in
    assert width == [{axis: [i] for axis in columns} for i in range(WIDTH)]
    assert experts == [{"wr:1": [e], "fc1:0": [e], "b1:0": [e], "fc2:0": [e], "b2:0": [e]} for e in range(EXPERTS)]
    assert hidden == [{"fc1:1": [i], "b1:1": [i], "fc2:2": [i]} for i in range(HIDDEN)]
    assert [g.kind for g in coupling.groups][1:3] == ["experts", "ffn"]


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "identity"])
@pytest.mark.parametrize("normalised", [0, 1])
def test_equals_the_masked_dense_model(activation: str, normalised: int) -> None:
    assert_prunes_exactly(mixture(activation_type=activation, normalize_routing_weights=normalised))


@pytest.mark.parametrize(
    ("fused", "rows"),
    [(1, [[2 * i, 2 * i + 1] for i in range(HIDDEN)]), (2, [[i, HIDDEN + i] for i in range(HIDDEN)])],
)
def test_both_halves_of_a_fused_gate_go_together(fused: int, rows: list[list[int]]) -> None:
    model = mixture(rows=2 * HIDDEN, activation_type="swiglu", swiglu_fusion=fused)
    hidden = by_kind(model)["ffn"]
    assert hidden == [{"fc1:1": r, "b1:1": r, "fc2:2": [i]} for i, r in enumerate(rows)]
    if fused == 1:
        assert_prunes_exactly(model)  # the only form of SwiGLU that the CPU build runs


def test_a_gate_of_its_own_goes_along() -> None:
    """fc3; ONNX Runtime's CPU build does not run it."""
    hidden = by_kind(mixture(gate=True, activation_type="silu"))["ffn"]
    assert hidden[1] == {"fc1:1": [1], "b1:1": [1], "fc2:2": [1], "fc3:1": [1], "b3:1": [1]}


def test_no_more_experts_are_chosen_than_are_left() -> None:
    model = mixture(k=3, activation_type="relu")
    name = next(g.name for g in analyse(model).groups if g.kind == "experts")
    assert attributes(pruned(model, {name: [0, 1, 3]}), "MoE") == {"k": 3, "activation_type": b"relu"}
    left = pruned(model, {name: [1, 2]})
    assert attributes(left, "MoE") == {"k": 2, "activation_type": b"relu"}
    assert shapes(left)["fc1"] == (2, HIDDEN, WIDTH)
    assert shapes(left)["wr"] == (3, 2)


def test_a_sparse_mixer_keeps_its_experts() -> None:
    coupling = analyse(mixture(use_sparse_mixer=1))
    assert sorted(g.size for g in coupling.groups) == [HIDDEN, WIDTH]
    why = "the sparse mixer is made for as many experts as there are [fc2:0]"
    assert [r.why for r in coupling.refusals if (r.tensor, r.axis) == ("wr", 1)] == [why]


def test_rows_that_are_no_hidden_units_freeze() -> None:
    model = mixture(rows=2 * HIDDEN)
    refusals = analyse(model, measured={"y": (TOKENS, WIDTH)}).refusals
    why = f"{2 * HIDDEN} rows for {HIDDEN} hidden units"
    assert {r.why for r in refusals if r.tensor == "fc1"} == {why}


def test_macs_are_those_of_the_chosen_experts() -> None:
    dense = TOKENS * (3 * WIDTH + 3 * EXPERTS + WIDTH * 2)
    assert analyse(mixture(k=2)).cost().macs == dense + TOKENS * 2 * 2 * HIDDEN * WIDTH


# -- packed weights ------------------------------------------------------------------------------------------------

PACKED = {"hidden": 32, "width": 32}


def quantised(**attrs: Any) -> onnx.ModelProto:
    """As `mixture`, 32 wide, with 4-bit weights and a scale for each of their rows."""
    rng = np.random.default_rng(3)
    width, hidden = PACKED["width"], PACKED["hidden"]
    weights: Weights = {
        "w0": [3, width], "wr": [3, EXPERTS], "wo": [width, 2],
        "fc1": rng.integers(0, 256, (EXPERTS, hidden, width // 2)).astype(np.uint8),
        "s1": np.abs(rng.normal(size=(EXPERTS, hidden))).astype(np.float32) * 0.1,
        "fc2": rng.integers(0, 256, (EXPERTS, width, hidden // 2)).astype(np.uint8),
        "s2": np.abs(rng.normal(size=(EXPERTS, width))).astype(np.float32) * 0.1,
    }  # fmt: skip
    nodes = [
        make_node("MatMul", ["x", "w0"], ["h"]),
        make_node("MatMul", ["x", "wr"], ["scores"]),
        make_node("QMoE", ["h", "scores", "fc1", "s1", "", "fc2", "s2"], ["y"], domain=MICROSOFT, k=2,
                  expert_weight_bits=4, activation_type="relu", **attrs),
        make_node("MatMul", ["y", "wo"], ["out"]),
    ]  # fmt: skip
    return make_model(nodes, {"x": [TOKENS, 3]}, ["out"], weights)


def test_whole_experts_of_packed_weights_go() -> None:
    coupling = assert_prunes_exactly(quantised())
    assert [(g.kind, g.size, g.exact) for g in coupling.groups] == [("experts", EXPERTS, False)]
    assert units(coupling)[coupling.groups[0].name][2] == {
        "wr:1": [2], "fc1:0": [2], "s1:0": [2], "fc2:0": [2], "s2:0": [2]
    }  # fmt: skip


def test_the_rest_of_packed_weights_stays_with_a_reason() -> None:
    why = {(r.tensor, r.axis): r.why.split(" [")[0] for r in analyse(quantised()).refusals}
    assert why["fc1", 1] == why["s2", 1] == why["wo", 0] == "its weights are packed in blocks"


def test_scales_of_activations_by_expert_go_along() -> None:
    """Forms of a GPU: they have a number for each expert, or one for all."""
    model = quantised()
    node = model.graph.node[2]
    node.input.extend([""] * (17 - len(node.input)) + ["act", "one"])
    for name, count in (("act", EXPERTS), ("one", 1)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(count, np.float32), name))
    (experts,) = units(analyse(model)).values()
    assert experts[2]["act:0"] == [2]
    assert "one:0" not in experts[2]


def test_weights_that_are_laid_out_for_one_runtime_stay() -> None:
    coupling = analyse(quantised(weights_prepacked=1))
    assert coupling.groups == ()
    assert {r.why for r in coupling.refusals if r.tensor == "fc1"} == {"its weights are laid out for one runtime"}
