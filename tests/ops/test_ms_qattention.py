"""com.microsoft's quantised attention (heads, and dims of queries, keys and values alike) and embedding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.coupling.coupling import Coupling
from onnxprune.types import Group
from tests.support.models import units
from tests.support.oracle import assert_prunes_exactly, random_feeds
from tests.support.pruned import array, attributes, pruned, shapes
from tests.support.quantised import int8, ms_model, ms_node, scalar, scales, uint8
from tests.support.sandwich import one_by_one

HEADS, SIZE, STEPS, FEATURES = 3, 4, 5, 6
WIDTH = HEADS * SIZE


def attention_model(
    by_column: bool = True, zero: str = "none", mask: bool = False, past: bool = False, **attrs: Any
) -> onnx.ModelProto:
    """x [2, 5, 6] -> uint8 -> QAttention of three heads of four dims -> MatMul `leave` -> out.

    `zero`: "none" (no zero point of the weight), "one" or, by column, "many".
    """
    weights: dict[str, Any] = {
        "xs": scalar(0.03), "xz": scalar(117, np.uint8), "w": int8(FEATURES, 3 * WIDTH), "b": [3 * WIDTH],
        "ws": scales(3 * WIDTH) if by_column else scalar(0.01), "leave": [WIDTH, 2],
    }  # fmt: skip
    inputs: dict[str, list[int]] = {"x": [2, STEPS, FEATURES]}
    if zero != "none":
        weights["wz"] = int8(3 * WIDTH, seed=4) // 9 if zero == "many" else scalar(7, np.int8)
    if mask:
        weights["lengths"] = np.array([3, 5], np.int32)
    if past:
        inputs["past"] = [2, 2, HEADS, 4, SIZE]
    names = ["q", "w", "b", "xs", "ws", "lengths" if mask else "", "xz", "wz" if zero != "none" else ""]
    nodes = [
        make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
        ms_node(
            "QAttention", [*names, *(["past"] if past else [])], ["h", *(["present"] if past else [])],
            num_heads=HEADS, **attrs,
        ),
        make_node("MatMul", ["h", "leave"], ["out"]),
    ]  # fmt: skip
    model = ms_model(nodes, inputs, weights, rank=3)
    if past:
        model.graph.output.append(onnx.helper.make_tensor_value_info("present", onnx.TensorProto.FLOAT, [None] * 5))
    return model


def columns(head: int | None = None, dim: int | None = None) -> list[int]:
    """The columns, of queries, keys and values, that belong to a head or to a dim of every head."""
    every = np.arange(3 * WIDTH).reshape(3, HEADS, SIZE)
    return every[:, head].reshape(-1).tolist() if head is not None else every[:, :, dim].reshape(-1).tolist()


def by_kind(coupling: Coupling) -> list[Group]:
    """Heads, then dims: which of the two groups of one axis comes first is no promise."""
    return sorted(coupling.groups, key=lambda group: group.kind, reverse=True)


def test_heads_and_dims() -> None:
    coupling = assert_prunes_exactly(attention_model(zero="many"))
    found = units(coupling)
    assert [(g.size, g.kind, g.exact) for g in by_kind(coupling)] == [(HEADS, "heads", True), (SIZE, "head_dims", True)]
    for group, key, per_unit in zip(by_kind(coupling), ("head", "dim"), (SIZE, HEADS), strict=True):
        for index, unit in enumerate(found[group.name]):
            mine = columns(**{key: index})
            out = [c for c in mine if c < WIDTH]
            assert len(out) == per_unit
            assert unit == {"w:1": mine, "b:0": mine, "ws:0": mine, "wz:0": mine, "leave:0": out}


@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("zero", ["none", "one"])
@pytest.mark.parametrize("mask", [False, True])
def test_every_form(by_column: bool, zero: str, mask: bool) -> None:
    coupling = assert_prunes_exactly(attention_model(by_column, zero, mask, unidirectional=1))
    assert [g.size for g in by_kind(coupling)] == [HEADS, SIZE]


def test_sizes_follow_and_the_scale_is_pinned() -> None:
    model = attention_model()
    heads, dims = (g.name for g in by_kind(analyse(model)))
    edited = pruned(model, {heads: [0, 2], dims: [0, 1, 3]})
    assert attributes(edited, "QAttention") == {"num_heads": 2, "scale": pytest.approx(1 / math.sqrt(SIZE))}
    kept = [c for c in range(3 * WIDTH) if c // SIZE % HEADS != 1 and c % SIZE != 2]
    assert shapes(edited)["leave"] == (6, 2)
    np.testing.assert_array_equal(array(edited, "w"), array(model, "w")[:, kept], strict=True)
    np.testing.assert_array_equal(array(edited, "ws"), array(model, "ws")[kept], strict=True)


def test_heads_alone_leave_the_scale_to_its_default() -> None:
    model = attention_model()
    heads, _ = (g.name for g in by_kind(analyse(model)))
    assert attributes(pruned(model, {heads: [0, 2]}), "QAttention") == {"num_heads": 2}


def test_a_scale_that_is_given_stays() -> None:
    model = attention_model(scale=0.25)
    _, dims = (g.name for g in by_kind(analyse(model)))
    assert attributes(pruned(model, {dims: [1]}), "QAttention") == {"num_heads": 3, "scale": 0.25}


def test_the_cache_keeps_heads_unless_it_may_shrink() -> None:
    assert analyse(attention_model(past=True)).groups == ()
    coupling = analyse(attention_model(past=True), allow_io_change=["past", "present"])
    assert [(g.size, g.kind) for g in by_kind(coupling)] == [(HEADS, "heads"), (SIZE, "head_dims")]


def test_rotary_dims_are_declined() -> None:
    coupling = analyse(attention_model(do_rotary=1))
    assert coupling.groups == ()
    assert any(r.why == "its dims turn in pairs" for r in coupling.refusals)


def embedding_model(segments: bool = True) -> onnx.ModelProto:
    """ids [2, 5] -> QEmbedLayerNormalization -> h [2, 5, 6] -> MatMul `leave` -> out."""
    weights: dict[str, Any] = {
        "words": uint8(9, 6), "places": uint8(STEPS, 6, seed=3), "kinds": uint8(2, 6, seed=5),
        "gamma": uint8(6, seed=7), "beta": uint8(6, seed=9), "s": scalar(0.01), "z": scalar(120, np.uint8),
        "leave": [6, 2], "segments": np.zeros((2, STEPS), np.int32),
    }  # fmt: skip
    tables = ["words", "places", "kinds" if segments else "", "gamma", "beta"]
    scales_of = ["s", "s", "s" if segments else "", "s", "s"]
    zeros_of = ["z", "z", "z" if segments else "", "z", "z"]
    inputs = ["ids", "segments" if segments else "", *tables, "", *scales_of, *zeros_of]
    nodes = [
        ms_node("QEmbedLayerNormalization", inputs, ["h", "lengths"]),
        make_node("MatMul", ["h", "leave"], ["out"]),
    ]
    if not segments:
        del weights["kinds"], weights["segments"]
    return ms_model(nodes, {"ids": [2, STEPS]}, weights, rank=3, input_types={"ids": onnx.TensorProto.INT32})


@pytest.mark.parametrize("segments", [False, True])
def test_an_embedding_s_width_mixes(segments: bool) -> None:
    model = embedding_model(segments)
    coupling = assert_prunes_exactly(model, feeds=random_feeds(analyse(model), high=9))
    (group,) = coupling.groups
    assert (group.exact, group.mixes) == (False, ("mean and variance are taken over it",))
    tables = ["words:1", "places:1", *(["kinds:1"] if segments else []), "gamma:0", "beta:0", "leave:0"]
    assert units(coupling) == {group.name: one_by_one(6, *tables)}


def test_an_attention_that_is_none_is_declined() -> None:
    """What ONNX Runtime's quantiser makes of ai.onnx's Attention, whose name it takes for com.microsoft's."""
    model = attention_model()
    del model.graph.node[1].attribute[:]
    coupling = analyse(model)
    assert coupling.groups == ()
    assert any(r.op == "QAttention" and ("heads" in r.why or "shape" in r.why) for r in coupling.refusals)
