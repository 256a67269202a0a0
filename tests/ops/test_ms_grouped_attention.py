"""GroupQueryAttention of com.microsoft: shared heads, caches, rotary pairs, and head sizes in multiples of eight."""

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

Weights = dict[str, np.ndarray | list[int]]
WIDTH, STEPS, PAST, TABLE = 6, 3, 4, 12


def attention_model(
    heads: int = 4, shared: int = 2, size: int = 16, *, past: int = 0, packed: bool = False, turned: int = 0,
    extra: dict[int, str] | None = None, weights: Weights | None = None, steps: int = STEPS, **attrs: object,
) -> onnx.ModelProto:  # fmt: skip
    """x [1, steps, 6] -> q, k, v (or all at once) -> GroupQueryAttention -> a projection to 5; caches are stored."""
    sizes: Weights = {
        "lengths": np.array([past + steps - 1], np.int32), "total": np.array(past + steps, np.int32),
        "wo": [heads * size, 5],
    }  # fmt: skip
    inputs = [*"qkv", "", "", "lengths", "total"]
    if packed:
        nodes = [make_node("MatMul", ["x", "w"], ["q"])]
        sizes["w"] = [WIDTH, (heads + 2 * shared) * size]
        inputs[1:3] = ["", ""]
    else:
        nodes = [make_node("MatMul", ["x", f"w{n}"], [n]) for n in "qkv"]
        sizes |= {"wq": [WIDTH, heads * size], "wk": [WIDTH, shared * size], "wv": [WIDTH, shared * size]}
    if past:
        inputs[3:5] = ["past_k", "past_v"]
        sizes |= {name: [1, shared, past, size] for name in inputs[3:5]}
    if turned:
        inputs += ["cos", "sin"]
        sizes |= {name: [TABLE, turned // 2] for name in inputs[7:9]}
        attrs["do_rotary"] = 1
    for position, name in (extra or {}).items():
        inputs += [""] * (position + 1 - len(inputs))
        inputs[position] = name
    attrs |= {"num_heads": heads, "kv_num_heads": shared}
    nodes += [
        make_node("GroupQueryAttention", inputs, ["y", "k2", "v2"], domain=MICROSOFT, **attrs),
        make_node("MatMul", ["y", "wo"], ["out"]),
    ]
    return make_model(nodes, {"x": [1, steps, WIDTH]}, ["out"], {**sizes, **(weights or {})})


def kinds(model: onnx.ModelProto, **options: Any) -> list[tuple[str, int, bool]]:
    return [(g.kind, g.size, g.exact) for g in analyse(model, **options).groups]


def block(first: int, *, size: int = 16, heads: int, length: int = 8) -> list[int]:
    """`length` dims from `first` on, of each of some heads."""
    return [h * size + first + d for h in range(heads) for d in range(length)]


def test_units() -> None:
    coupling = analyse(attention_model(heads=4, shared=2, size=16))
    shared, dims, members = units(coupling).values()
    assert shared == [
        {"wq:1": [*range(32)], "wk:1": [*range(16)], "wv:1": [*range(16)], "wo:0": [*range(32)]},
        {"wq:1": [*range(32, 64)], "wk:1": [*range(16, 32)], "wv:1": [*range(16, 32)], "wo:0": [*range(32, 64)]},
    ]
    assert dims == [
        {
            "wq:1": block(b, heads=4), "wk:1": block(b, heads=2), "wv:1": block(b, heads=2), "wo:0": block(b, heads=4),
        }
        for b in (0, 8)
    ]  # fmt: skip
    assert members == [
        {axis: [*range(16 * m, 16 * m + 16), *range(32 + 16 * m, 48 + 16 * m)] for axis in ("wq:1", "wo:0")}
        for m in (0, 1)
    ]


@pytest.mark.parametrize("past", [0, PAST])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("turned", [0, 32])
def test_equals_the_masked_dense_model(past: int, packed: bool, turned: int) -> None:
    model = attention_model(4, 2, 32, past=past, packed=packed, turned=turned)
    coupling = assert_prunes_exactly(model)
    dims = 2 if turned else 4
    assert sorted((g.kind, g.size) for g in coupling.groups) == [("head_dims", dims), ("heads", 2), ("heads", 2)]
    assert all(g.exact for g in coupling.groups)


def test_attributes_follow() -> None:
    model = attention_model(4, 2, 16)
    shared, dims, members = (g.name for g in analyse(model).groups)
    assert attributes(pruned(model, {shared: [1]}), "GroupQueryAttention") == {"num_heads": 2, "kv_num_heads": 1}
    assert attributes(pruned(model, {members: [0]}), "GroupQueryAttention") == {"num_heads": 2, "kv_num_heads": 2}
    thin = pruned(model, {dims: [1]})
    assert attributes(thin, "GroupQueryAttention") == pytest.approx({"num_heads": 4, "kv_num_heads": 2, "scale": 0.25})
    assert {n: s for n, s in shapes(thin).items() if n.startswith("w")} == {
        "wq": (6, 32), "wk": (6, 16), "wv": (6, 16), "wo": (32, 5),
    }  # fmt: skip


def test_attributes_of_the_packed_form_follow() -> None:
    model = attention_model(4, 2, 16, packed=True)
    by_size = {tuple(u["w:1"]): name for name, members in units(analyse(model)).items() for u in members[:1]}
    shared = by_size[(*range(32), *range(64, 80), *range(96, 112))]
    left = pruned(model, {shared: [1]})
    assert attributes(left, "GroupQueryAttention") == {"num_heads": 2, "kv_num_heads": 1}
    assert shapes(left)["w"] == (6, 64)


@pytest.mark.parametrize("interleaved", [0, 1])
def test_pairs_go_eight_at_a_time_with_their_angles(interleaved: int) -> None:
    model = attention_model(2, 1, 32, turned=32, rotary_interleaved=interleaved)
    coupling = assert_prunes_exactly(model)
    (dims,) = [units(coupling)[g.name] for g in coupling.groups if g.kind == "head_dims"]
    assert [u["cos:1"] for u in dims] == [[*range(8)], [*range(8, 16)]]
    first = [*range(16)] if interleaved else [*range(8), *range(16, 24)]
    assert [u["wk:1"] for u in dims] == [first, [d for d in range(32) if d not in first]]


def test_what_is_not_turned_goes_sixteen_at_a_time() -> None:
    model = attention_model(2, 1, 64, turned=32)
    coupling = assert_prunes_exactly(model)
    dims = [units(coupling)[g.name] for g in coupling.groups if g.kind == "head_dims"]
    assert [[u["wk:1"] for u in group] for group in dims] == [
        [[*range(8), *range(16, 24)], [*range(8, 16), *range(24, 32)]],
        [[*range(32, 48)], [*range(48, 64)]],
    ]


def test_one_block_of_eight_is_nothing_to_choose_from() -> None:
    assert kinds(attention_model(4, 2, 8)) == [("heads", 2, True), ("heads", 2, True)]
    assert kinds(attention_model(4, 2, 16, turned=16)) == [("heads", 2, True), ("heads", 2, True)]


def test_a_sink_and_scores_go_by_head() -> None:
    model = attention_model(
        4, 2, 8, extra={10: "s", 11: "sink"}, weights={"s": [1, 4, STEPS, STEPS], "sink": [4]}, smooth_softmax=1
    )
    coupling = assert_prunes_exactly(model)
    shared, members = units(coupling).values()
    assert [u["sink:0"] for u in shared] == [[0, 1], [2, 3]]
    assert [u["s:1"] for u in members] == [[0, 2], [1, 3]]


def test_normalised_queries_and_keys_mix_dims() -> None:
    """ONNX Runtime's CPU build does not run this form."""
    model = attention_model(2, 1, 16, extra={14: "nq", 15: "nk"}, weights={"nq": [16], "nk": [16]})
    coupling = analyse(model)
    assert {g.kind: g.mixes for g in coupling.groups} == {
        "heads": (),
        "head_dims": ("the mean square is taken over it",),
    }


def test_a_quantised_cache_freezes_with_a_reason() -> None:
    model = attention_model(2, 1, 16, k_quant_type="PER_TENSOR")
    assert {r.why for r in analyse(model).refusals if r.tensor == "wq" and r.axis == 1} == {
        "its cache is quantised [q:2]"
    }


@pytest.mark.parametrize(("heads", "shared"), [(3, 2), (4, 0)])
def test_heads_that_cannot_be_shared_freeze(heads: int, shared: int) -> None:
    model = attention_model(4, 2, 16)
    for attribute in model.graph.node[3].attribute:
        if attribute.name in ("num_heads", "kv_num_heads"):
            attribute.i = heads if attribute.name == "num_heads" else shared
    measured = {"y": (1, STEPS, 64), "k2": (1, 2, STEPS, 16), "v2": (1, 2, STEPS, 16)}
    assert analyse(model, measured=measured).groups == ()


def test_macs_are_those_of_both_products() -> None:
    model = attention_model(4, 2, 16, past=PAST)
    projections = STEPS * (WIDTH * (64 + 32 + 32) + 64 * 5)
    assert analyse(model).cost().macs == projections + 2 * STEPS * 64 * (STEPS + PAST)
