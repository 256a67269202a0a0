"""Fused convolutions and matrix products of com.microsoft have the units of what they are fused from."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.graph.contrib import MICROSOFT
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import attributes, pruned, shapes
from tests.support.sandwich import WIDTH, between_convs, between_matmuls, one_by_one


def fused(op: str, inputs: list[str], **attrs: Any) -> onnx.NodeProto:
    return make_node(op, inputs, ["y"], domain=MICROSOFT, **attrs)


ACTIVATIONS: list[dict[str, Any]] = [
    {"activation": "Relu"},
    {"activation": "Sigmoid"},
    {"activation": "LeakyRelu", "activation_params": [0.1]},
    {"activation": "HardSigmoid", "activation_params": [0.2, 0.5]},
]


@pytest.mark.parametrize("attrs", ACTIVATIONS, ids=lambda a: a["activation"])
def test_fused_conv(attrs: dict[str, Any]) -> None:
    model = between_convs([fused("FusedConv", ["h", "w", "b"], **attrs)], {"w": [8, WIDTH, 3, 3], "b": [8]}, reads=8)
    coupling = assert_prunes_exactly(model)
    assert units(coupling) == {
        "w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w:1"),
        "w:0": one_by_one(8, "w:0", "b:0", "w2:1"),
    }
    assert [(g.kind, g.exact) for g in coupling.groups] == [("channels", True)] * 2


def test_a_residual_that_is_added_inside() -> None:
    nodes = [
        make_node("Conv", ["x", "w3"], ["z"]),
        fused("FusedConv", ["h", "w", "b", "z"], activation="Relu"),
    ]
    model = between_convs(nodes, {"w3": [8, 3, 1, 1], "w": [8, WIDTH, 1, 1], "b": [8]}, reads=8)
    coupling = assert_prunes_exactly(model)
    assert units(coupling)["w3:0"] == one_by_one(8, "w3:0", "w:0", "b:0", "w2:1")
    assert {g.name: g.kind for g in coupling.groups} == {"w1:0": "channels", "w3:0": "width"}


def test_groups_of_a_fused_convolution() -> None:
    node = fused("FusedConv", ["h", "w"], activation="Relu", group=3)
    model = between_convs([node], {"w": [9, 2, 1, 1]}, reads=9)
    coupling = assert_prunes_exactly(model)
    names = {g.size: g.name for g in coupling.groups if "w1:0" in units(coupling)[g.name][0]}
    assert attributes(pruned(model, {names[3]: [0, 2]}), "FusedConv")["group"] == 2
    assert attributes(pruned(model, {names[2]: [1]}), "FusedConv")["group"] == 3


def nhwc(op: str, inputs: list[str], weights: dict[str, list[int]], **attrs: Any) -> onnx.ModelProto:
    """h of a convolution, its channels last -> `op` -> y of 8 channels; the CPU build has no kernel for it."""
    nodes = [
        make_node("Transpose", ["h"], ["t"], perm=[0, 2, 3, 1]),
        make_node(op, ["t", *inputs], ["n"], domain=MICROSOFT, **attrs),
        make_node("Transpose", ["n"], ["y"], perm=[0, 3, 1, 2]),
    ]
    return between_convs(nodes, weights, reads=8)


def test_channels_may_come_last() -> None:
    model = nhwc("NhwcConv", ["w", "b"], {"w": [8, WIDTH, 3, 3], "b": [8]}, pads=[1, 1, 1, 1])
    assert units(analyse(model)) == {
        "w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w:1"),
        "w:0": one_by_one(8, "w:0", "b:0", "w2:1"),
    }
    assert shapes(pruned(model, {"w1:0": [1, 4], "w:0": [0]})) == {
        "w1": (2, 3, 1, 1), "b1": (2,), "w2": (4, 1, 1, 1), "w": (1, 2, 3, 3), "b": (1,),
    }  # fmt: skip


def test_groups_and_a_residual_of_channels_that_come_last() -> None:
    model = nhwc("NhwcFusedConv", ["w", "", "z"], {"w": [8, 3, 1, 1], "z": [2, 4, 5, 8]}, group=2, activation="Relu")
    coupling = analyse(model)
    found = units(coupling)
    assert {axis for members in found.values() for axis in members[0]} == {"w1:0", "b1:0", "w:0", "w:1", "z:3", "w2:1"}
    whole = next(g.name for g in coupling.groups if {"w1:0", "z:3"} <= found[g.name][0].keys())
    assert found[whole][1]["z:3"] == [4, 5, 6, 7]
    assert attributes(pruned(model, {whole: [1]}), "NhwcFusedConv")["group"] == 1


@pytest.mark.parametrize("transposed", [0, 1])
def test_fused_gemm(transposed: int) -> None:
    nodes = [
        make_node("Gemm", ["x", "w1", "b1"], ["h"]),
        fused("FusedGemm", ["h", "w", "b"], activation="LeakyRelu", activation_alpha=0.1, transB=transposed),
        make_node("Gemm", ["y", "w2"], ["out"]),
    ]
    weights = {"w1": [3, 6], "b1": [6], "w": [4, 6] if transposed else [6, 4], "b": [4], "w2": [4, 2]}
    coupling = assert_prunes_exactly(make_model(nodes, {"x": [5, 3]}, ["out"], weights))
    rows, columns = ("w:1", "w:0") if transposed else ("w:0", "w:1")
    assert units(coupling) == {
        "w1:1": one_by_one(6, "w1:1", "b1:0", rows),
        columns: one_by_one(4, columns, "b:0", "w2:0"),
    }
    assert coupling.cost().macs == 5 * (3 * 6 + 6 * 4 + 4 * 2)


@pytest.mark.parametrize("op", ["FusedMatMul", "TransposeMatMul"])
def test_a_scaled_product_with_a_transposed_matrix(op: str) -> None:
    model = between_matmuls([fused(op, ["h", "w"], transB=1, alpha=0.25)], {"w": [8, WIDTH]}, reads=8)
    coupling = assert_prunes_exactly(model)
    assert units(coupling) == {
        "w1:1": one_by_one(WIDTH, "w1:1", "b1:0", "w:1"),
        "w:0": one_by_one(8, "w:0", "w2:0"),
    }
    assert coupling.cost().macs == 2 * 5 * (3 * WIDTH + WIDTH * 8 + 8 * 4)


def test_scores_of_attention_with_a_folded_transpose() -> None:
    """Q K^T / sqrt(d) as the optimiser writes it: dims of q and k by head are summed over."""
    nodes = [
        *(make_node("MatMul", ["x", f"w{n}"], [n]) for n in "qkv"),
        *(make_node("Reshape", [n, "split"], [f"{n}_split"]) for n in "qkv"),
        *(make_node("Transpose", [f"{n}_split"], [f"{n}_heads"], perm=[0, 2, 1, 3]) for n in "qkv"),
        make_node("FusedMatMul", ["q_heads", "k_heads"], ["scores"], domain=MICROSOFT, transB=1, alpha=0.5),
        make_node("Softmax", ["scores"], ["shares"]),
        make_node("MatMul", ["shares", "v_heads"], ["mixed"]),
        make_node("Transpose", ["mixed"], ["back"], perm=[0, 2, 1, 3]),
        make_node("Reshape", ["back", "join"], ["joined"]),
        make_node("MatMul", ["joined", "wo"], ["out"]),
    ]
    weights = {
        **{f"w{n}": [3, 8] for n in "qkv"}, "wo": [8, 4],
        "split": np.array([0, 0, 2, -1]), "join": np.array([0, 0, -1]),
    }  # fmt: skip
    coupling = assert_prunes_exactly(make_model(nodes, {"x": [2, 5, 3]}, ["out"], weights))
    assert [(g.kind, g.size, g.exact) for g in coupling.groups] == [
        ("heads", 2, True), ("head_dims", 4, True), ("head_dims", 4, True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("perm", "attrs"),
    [
        ([1, 0, 2], {"transBatchA": 1}),  # [rows, batch, inner]
        ([2, 0, 1], {"transBatchA": 1, "transA": 1}),  # [inner, batch, rows]
        ([0, 2, 1], {"transA": 1}),
    ],
)
def test_batches_that_are_transposed(perm: list[int], attrs: dict[str, int]) -> None:
    """h [2, 5, 6] in another order of axes, times a matrix for each of the batch."""
    nodes = [
        make_node("Transpose", ["h"], ["t"], perm=perm),
        fused("FusedMatMul", ["t", "w"], **attrs),
    ]
    coupling = assert_prunes_exactly(between_matmuls(nodes, {"w": [2, WIDTH, 8]}, reads=8))
    assert units(coupling) == {
        "w1:1": one_by_one(WIDTH, "w1:1", "b1:0", "w:1"),
        "w:2": one_by_one(8, "w:2", "w2:0"),
    }
    assert coupling.cost().macs == 2 * 5 * (3 * WIDTH + WIDTH * 8 + 8 * 4)


def test_gemm_fast_gelu() -> None:
    model = between_matmuls([fused("GemmFastGelu", ["h", "w", "b"])], {"w": [WIDTH, 8], "b": [8]}, reads=8)
    assert units(analyse(model)) == {
        "w1:1": one_by_one(WIDTH, "w1:1", "b1:0", "w:0"),
        "w:1": one_by_one(8, "w:1", "b:0", "w2:0"),
    }
