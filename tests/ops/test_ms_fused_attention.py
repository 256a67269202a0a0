"""Attention of com.microsoft: one matrix makes queries, keys and values; heads and dims go from all its parts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.graph.contrib import MICROSOFT
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import array, attributes, pruned, shapes

Weights = dict[str, np.ndarray | list[int]]
HEADS, SIZE, WIDTH, INNER = 2, 3, 4, 5


def attention_model(
    depth: int = SIZE, *, extra: tuple[str, ...] = (), outputs: tuple[str, ...] = ("y",), steps: int = 5,
    weights: Weights | None = None, results: tuple[str, ...] = (), inputs: dict[str, list[int]] | None = None,
    op: str = "Attention", tokens: bool = False, **attrs: object,
) -> onnx.ModelProto:  # fmt: skip
    """x [2, steps, 4] -> 5 columns -> Attention of 2 heads of 3 dims (values of `depth`) -> a projection to 5."""
    if depth != SIZE:
        attrs["qkv_hidden_sizes"] = [HEADS * SIZE, HEADS * SIZE, HEADS * depth]
    columns = HEADS * (2 * SIZE + depth)
    nodes = [
        make_node("MatMul", ["x", "w0"], ["h"]),
        make_node(op, ["h", "w", "b", *extra], list(outputs), domain=MICROSOFT, num_heads=HEADS, **attrs),
        make_node("MatMul", ["y", "wo"], ["out"]),
    ]
    sizes: Weights = {
        "w0": [WIDTH, INNER], "w": [INNER, columns], "b": [columns], "wo": [HEADS * depth, 5], **(weights or {})
    }  # fmt: skip
    shape = [6, WIDTH] if tokens else [2, steps, WIDTH]
    return make_model(nodes, {"x": shape, **(inputs or {})}, ["out", *results], sizes)


def test_units() -> None:
    coupling = analyse(attention_model())
    inner, heads, keys, values = (units(coupling)[g.name] for g in coupling.groups)
    assert [(g.kind, g.size, g.exact) for g in coupling.groups] == [
        ("ffn", 5, True), ("heads", 2, True), ("head_dims", 3, True), ("head_dims", 3, True),
    ]  # fmt: skip
    assert inner == [{"w0:1": [i], "w:0": [i]} for i in range(INNER)]
    assert heads == [
        {"w:1": [0, 1, 2, 6, 7, 8, 12, 13, 14], "b:0": [0, 1, 2, 6, 7, 8, 12, 13, 14], "wo:0": [0, 1, 2]},
        {"w:1": [3, 4, 5, 9, 10, 11, 15, 16, 17], "b:0": [3, 4, 5, 9, 10, 11, 15, 16, 17], "wo:0": [3, 4, 5]},
    ]
    assert keys == [{"w:1": [d, 3 + d, 6 + d, 9 + d], "b:0": [d, 3 + d, 6 + d, 9 + d]} for d in range(3)]
    assert values == [{"w:1": [12 + d, 15 + d], "b:0": [12 + d, 15 + d], "wo:0": [d, 3 + d]} for d in range(3)]


def test_dims_of_keys_go_apart_from_those_of_values() -> None:
    coupling = analyse(attention_model(depth=2))
    by_name = units(coupling)
    dims = [by_name[g.name] for g in coupling.groups if g.kind == "head_dims"]
    assert dims == [
        [{"w:1": [d, 3 + d, 6 + d, 9 + d], "b:0": [d, 3 + d, 6 + d, 9 + d]} for d in range(3)],
        [{"w:1": [12 + d, 14 + d], "b:0": [12 + d, 14 + d], "wo:0": [d, 2 + d]} for d in range(2)],
    ]
    assert all(g.exact for g in coupling.groups)


MASKS: dict[str, np.ndarray] = {
    "by word": np.array([[1, 1, 1, 0, 0], [1] * 5], np.int32),
    "by pair": np.tril(np.ones((2, 5, 5), np.int32)),
    "lengths": np.array([3, 5], np.int32),
    "ends and starts": np.array([5, 5, 1, 2], np.int32),
}


@pytest.mark.parametrize("depth", [SIZE, 4])
@pytest.mark.parametrize("mask", [None, *MASKS])
def test_equals_the_masked_dense_model(mask: str | None, depth: int) -> None:
    extra, weights = ((), {}) if mask is None else (("m",), {"m": MASKS[mask]})
    coupling = assert_prunes_exactly(attention_model(depth, extra=extra, weights=weights))
    assert sorted((g.size, g.exact) for g in coupling.groups) == sorted(
        (size, True) for size in (INNER, HEADS, SIZE, depth)
    )


def test_scores_by_head_that_are_added() -> None:
    model = attention_model(extra=("", "", "s"), weights={"s": [1, HEADS, 5, 5]}, unidirectional=1)
    assert_prunes_exactly(model)
    assert [[u["s:1"] for u in group] for group in units(analyse(model)).values() if "s:1" in group[0]] == [[[0], [1]]]


def test_attributes_follow() -> None:
    model = attention_model()
    name = {g.kind + str(i): g.name for i, g in enumerate(analyse(model).groups)}
    assert sorted(name) == ["ffn0", "head_dims2", "head_dims3", "heads1"]
    assert attributes(pruned(model, {name["ffn0"]: [0]}), "Attention") == {"num_heads": 2}
    heads = pruned(model, {name["heads1"]: [1]})
    assert attributes(heads, "Attention") == {"num_heads": 1}
    assert shapes(heads) == {"w0": (4, 5), "w": (5, 9), "b": (9,), "wo": (3, 5)}
    keys = pruned(model, {name["head_dims2"]: [0, 2]})
    given = attributes(keys, "Attention")
    assert given.pop("scale") == pytest.approx(1 / math.sqrt(3))
    assert given == {"num_heads": 2, "qkv_hidden_sizes": [4, 4, 6]}
    np.testing.assert_array_equal(array(keys, "b"), array(model, "b")[[0, 2, 3, 5, 6, 8, 9, 11, *range(12, 18)]])
    values = pruned(model, {name["head_dims3"]: [1]})
    assert attributes(values, "Attention") == {"num_heads": 2, "qkv_hidden_sizes": [6, 6, 2]}
    alike = pruned(model, {name["head_dims2"]: [0], name["head_dims3"]: [1]})
    assert attributes(alike, "Attention") == pytest.approx({"num_heads": 2, "scale": 1 / math.sqrt(3)})


def test_sizes_that_were_stated_stay_stated() -> None:
    model = attention_model(depth=2)
    heads = next(g.name for g in analyse(model).groups if g.kind == "heads")
    assert attributes(pruned(model, {heads: [0]}), "Attention") == {"num_heads": 1, "qkv_hidden_sizes": [3, 3, 2]}


def test_a_cache_ties_keys_and_values() -> None:
    model = attention_model(
        extra=("", "past"), outputs=("y", "present"), steps=1, weights={"past": [2, 2, HEADS, 4, SIZE]}
    )
    coupling = assert_prunes_exactly(model)
    assert sorted((g.kind, g.size) for g in coupling.groups) == [("ffn", 5), ("head_dims", 3), ("heads", 2)]
    (dims,) = [units(coupling)[g.name] for g in coupling.groups if g.kind == "head_dims"]
    assert dims[1] == {
        "w:1": [1, 4, 7, 10, 13, 16], "b:0": [1, 4, 7, 10, 13, 16], "past:4": [1], "wo:0": [1, 4]
    }  # fmt: skip


def test_a_cache_that_the_user_keeps_keeps_heads_and_dims() -> None:
    model = attention_model(outputs=("y", "present"), results=("present",))
    assert [g.kind for g in analyse(model).groups] == ["ffn"]
    allowed = [g.kind for g in analyse(model, allow_io_change=["present"]).groups]
    assert sorted(allowed) == ["ffn", "head_dims", "heads"]


def test_dims_that_turn_inside_stay() -> None:
    model = attention_model(do_rotary=1)
    coupling = analyse(model)
    assert sorted((g.kind, g.size) for g in coupling.groups) == [("ffn", 5), ("head_dims", 3), ("heads", 2)]
    assert [u for g in coupling.groups if g.kind == "head_dims" for u in units(coupling)[g.name]] == [
        {"w:1": [12 + d, 15 + d], "b:0": [12 + d, 15 + d], "wo:0": [d, 3 + d]} for d in range(3)
    ]


def test_the_packed_form_has_the_same_units() -> None:
    """Without a batch axis; ONNX Runtime's CPU build has no kernel for it."""
    model = attention_model(
        op="PackedAttention", tokens=True, extra=("at", "ends"),
        weights={"at": np.arange(6, dtype=np.int32).reshape(2, 3), "ends": np.array([0, 3, 6], np.int32)},
    )  # fmt: skip
    assert units(analyse(model)) == units(analyse(attention_model()))
    heads = next(g.name for g in analyse(model).groups if g.kind == "heads")
    assert attributes(pruned(model, {heads: [0]}), "PackedAttention") == {"num_heads": 1}


@pytest.mark.parametrize(
    ("attrs", "why"),
    [
        ({"num_heads": 4}, "18 columns are not 4 heads of queries, keys and values ([6, 6, 6])"),
        ({"num_heads": 0}, "num_heads=0"),
        ({"qkv_hidden_sizes": [6, 4, 8]}, "18 columns are not 2 heads of queries, keys and values ([6, 4, 8])"),
    ],
)
def test_sizes_that_do_not_fit_freeze(attrs: dict[str, Any], why: str) -> None:
    model = attention_model()
    node = model.graph.node[1]
    for name, value in attrs.items():
        for attribute in [a for a in node.attribute if a.name == name]:
            node.attribute.remove(attribute)
        node.attribute.append(onnx.helper.make_attribute(name, value))
    refusals = analyse(model, measured={"y": (2, 5, 6)}).refusals
    assert {r.why for r in refusals if (r.tensor, r.axis) == ("w", 1)} == {why}


def test_macs_are_those_of_the_projection_and_both_products() -> None:
    dense = 2 * 5 * (WIDTH * INNER + 6 * 5)
    assert analyse(attention_model()).cost().macs == dense + 2 * 5 * INNER * 18 + 2 * (2 * 5 * 6 * 5)
