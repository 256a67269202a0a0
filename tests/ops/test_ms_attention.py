"""MultiHeadAttention of com.microsoft: heads, dims of keys and of values, caches, masks, and the scale."""

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
from tests.support.pruned import attributes, pruned, shapes

BATCH, STEPS, WIDTH = 2, 5, 6
Weights = dict[str, np.ndarray | list[int]]


def attention_model(
    heads: int = 3, size: int = 2, depth: int = 2, *, extra: tuple[str, ...] = (), outputs: tuple[str, ...] = ("y",),
    weights: Weights | None = None, inputs: dict[str, list[int]] | None = None, results: tuple[str, ...] = (),
    op: str = "MultiHeadAttention", steps: int = STEPS, **attrs: object,
) -> onnx.ModelProto:  # fmt: skip
    """x [2, 5, 6] -> projections to q, k, v -> attention -> a projection to 5 outputs."""
    nodes = [make_node("MatMul", ["x", f"w{n}"], [n]) for n in "qkv"]
    nodes.append(make_node(op, ["q", "k", "v", *extra], list(outputs), domain=MICROSOFT, num_heads=heads, **attrs))
    nodes.append(make_node("MatMul", ["y", "wo"], ["out"]))
    sizes: Weights = {
        "wq": [WIDTH, heads * size], "wk": [WIDTH, heads * size], "wv": [WIDTH, heads * depth],
        "wo": [heads * depth, 5], **(weights or {}),
    }  # fmt: skip
    return make_model(nodes, {"x": [BATCH, steps, WIDTH], **(inputs or {})}, ["out", *results], sizes)


def packed_model(form: str) -> onnx.ModelProto:
    """Queries, keys and values (`qkv`), or keys and values (`kv`), as one tensor by head; 2 heads of 4 dims."""
    nodes = [
        make_node("MatMul", ["x", "w"], ["flat"]),
        make_node("Reshape", ["flat", "split"], ["packed"]),
        make_node("MatMul", ["x", "wq"], ["q"]),
    ]
    weights: Weights = {"wo": [8, 5], "wq": [WIDTH, 8]}
    if form == "qkv":
        weights |= {"w": [WIDTH, 24], "split": np.array([0, 0, 2, 3, 4])}
        nodes[2] = make_node("MultiHeadAttention", ["packed"], ["y"], domain=MICROSOFT, num_heads=2)
        del weights["wq"]
    else:
        weights |= {"w": [WIDTH, 16], "split": np.array([0, 0, 2, 2, 4])}
        nodes.append(make_node("MultiHeadAttention", ["q", "packed"], ["y"], domain=MICROSOFT, num_heads=2))
    nodes.append(make_node("MatMul", ["y", "wo"], ["out"]))
    return make_model(nodes, {"x": [BATCH, STEPS, WIDTH]}, ["out"], weights)


def found(model: onnx.ModelProto, **options: Any) -> list[list[dict[str, list[int]]]]:
    """Units of every group, without the groups' names."""
    return list(units(analyse(model, **options)).values())


def test_units() -> None:
    coupling = analyse(attention_model(heads=2, size=2, depth=3))
    assert units(coupling) == {
        "wq:1": [
            {"wq:1": [0, 1], "wk:1": [0, 1], "wv:1": [0, 1, 2], "wo:0": [0, 1, 2]},
            {"wq:1": [2, 3], "wk:1": [2, 3], "wv:1": [3, 4, 5], "wo:0": [3, 4, 5]},
        ],
        "wq:1#2": [{"wq:1": [0, 2], "wk:1": [0, 2]}, {"wq:1": [1, 3], "wk:1": [1, 3]}],
        "wv:1": [{"wv:1": [d, 3 + d], "wo:0": [d, 3 + d]} for d in range(3)],
    }
    assert [(g.kind, g.exact) for g in coupling.groups] == [("heads", True), ("head_dims", True), ("head_dims", True)]


def test_a_bias_goes_with_what_it_is_added_to() -> None:
    model = attention_model(heads=2, size=2, depth=3, extra=("b",), weights={"b": [14]})
    heads, keys, values = found(model)
    assert [u["b:0"] for u in heads] == [[0, 1, 4, 5, 8, 9, 10], [2, 3, 6, 7, 11, 12, 13]]
    assert [u["b:0"] for u in keys] == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert [u["b:0"] for u in values] == [[8 + d, 11 + d] for d in range(3)]


@pytest.mark.parametrize(
    ("extra", "weights"),
    [
        ((), {}),
        (("b",), {"b": [21]}),
        (("", "m"), {"m": np.array([[1, 1, 1, 0, 0], [1] * 5], np.int32)}),
        (("b", "m"), {"b": [21], "m": np.array([3, 5], np.int32)}),
        (("b", "", "s"), {"b": [21], "s": [2, 3, 5, 5]}),
        (("b", "", "s"), {"b": [21], "s": [1, 1, 5, 5]}),
    ],
    ids=["plain", "bias", "mask", "lengths", "scores", "broadcast scores"],
)
def test_equals_the_masked_dense_model(extra: tuple[str, ...], weights: Weights) -> None:
    coupling = assert_prunes_exactly(attention_model(3, 2, 3, extra=extra, weights=weights))
    assert [(g.size, g.exact) for g in coupling.groups] == [(3, True), (2, True), (3, True)]


def test_unidirectional_with_a_given_scale() -> None:
    model = attention_model(3, 2, 3, unidirectional=1, scale=0.7)
    assert_prunes_exactly(model)
    assert attributes(pruned(model, {"wq:1#2": [0]}), "MultiHeadAttention") == pytest.approx(
        {"num_heads": 3, "unidirectional": 1, "scale": 0.7}
    )


def test_scores_by_head_go_with_their_head() -> None:
    heads = found(attention_model(3, 2, 3, extra=("b", "", "s"), weights={"b": [21], "s": [2, 3, 5, 5]}))[0]
    assert [u["s:1"] for u in heads] == [[0], [1], [2]]


def test_several_numbers_per_sentence_keep_the_batch() -> None:
    model = attention_model(extra=("", "m"), weights={"m": np.array([2, 3, 0, 2, 5, 0, 5, 5], np.int32)})
    coupling = analyse(model, allow_io_change=["x", "out"])
    why = {(r.tensor, r.axis): r.why for r in coupling.refusals}
    assert why["m", 0] == "sequence positions stay"
    assert all("x:0" not in unit for group in units(coupling).values() for unit in group)


def test_num_heads_counts_what_stays_and_the_scale_is_pinned_with_the_dims() -> None:
    model = attention_model(3, 2, 3)
    heads = pruned(model, {"wq:1": [1, 2]})
    assert attributes(heads, "MultiHeadAttention") == {"num_heads": 2}
    dims = pruned(model, {"wq:1#2": [1]})
    assert attributes(dims, "MultiHeadAttention") == pytest.approx({"num_heads": 3, "scale": 1 / math.sqrt(2)})
    values = pruned(model, {"wv:1": [0, 2]})
    assert attributes(values, "MultiHeadAttention") == {"num_heads": 3}
    every = pruned(model, {"wq:1": [0], "wq:1#2": [1], "wv:1": [2]})
    assert attributes(every, "MultiHeadAttention") == pytest.approx({"num_heads": 1, "scale": 1 / math.sqrt(2)})
    assert shapes(every) == {"wq": (6, 1), "wk": (6, 1), "wv": (6, 1), "wo": (1, 5)}


CACHE = {"past_k": [BATCH, 2, 4, 3], "past_v": [BATCH, 2, 4, 3]}


def cached_model(*, stored: bool) -> onnx.ModelProto:
    """Two heads of three dims, with four steps that were there: stored in the file, or an input."""
    return attention_model(
        2, 3, 3, extra=("b", "", "", "past_k", "past_v"), outputs=("y", "k2", "v2"),
        weights={"b": [18], **(CACHE if stored else {})}, inputs={} if stored else CACHE,
        results=() if stored else ("k2", "v2"),
    )  # fmt: skip


def test_a_cache_that_is_an_input_keeps_heads_and_dims() -> None:
    coupling = analyse(cached_model(stored=False))
    assert coupling.groups == ()
    why = {(r.tensor, r.axis): (r.op, r.why) for r in coupling.refusals}
    assert why["wq", 1] == ("graph input", "an input of the model [past_k:1]")


def test_a_cache_ties_the_dims_of_keys_and_values() -> None:
    coupling = assert_prunes_exactly(cached_model(stored=True))
    assert [(g.size, g.kind) for g in coupling.groups] == [(2, "heads"), (3, "head_dims")]
    every = ("wq:1", "wk:1", "wv:1", "wo:0")
    assert found(cached_model(stored=True))[1] == [
        {
            **{w: [d, 3 + d] for w in every}, "b:0": [d, 3 + d, 6 + d, 9 + d, 12 + d, 15 + d],
            "past_k:3": [d], "past_v:3": [d],
        }
        for d in range(3)
    ]  # fmt: skip


def test_a_cache_that_may_shrink_does() -> None:
    allowed = ["past_k", "past_v", "k2", "v2"]
    edited = pruned(cached_model(stored=False), {"wq:1": [1], "wq:1#2": [0, 2]}, allow_io_change=allowed)
    assert {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in edited.graph.input} == {
        "x": [2, 5, 6], "past_k": [2, 1, 4, 2], "past_v": [2, 1, 4, 2],
    }  # fmt: skip


def test_keys_and_values_by_head() -> None:
    """Cross attention, whose keys and values were made once."""
    nodes = [
        make_node("MatMul", ["x", "wq"], ["q"]),
        *(make_node("MatMul", ["memory", f"w{n}"], [f"{n}_flat"]) for n in "kv"),
        *(make_node("Reshape", [f"{n}_flat", "split"], [f"{n}_split"]) for n in "kv"),
        *(make_node("Transpose", [f"{n}_split"], [n], perm=[0, 2, 1, 3]) for n in "kv"),
        make_node("MultiHeadAttention", ["q", "k", "v", "b"], ["y"], domain=MICROSOFT, num_heads=2),
        make_node("MatMul", ["y", "wo"], ["out"]),
    ]
    weights: Weights = {**{f"w{n}": [WIDTH, 8] for n in "qkv"}, "wo": [8, 5], "split": np.array([0, 0, 2, 4])}
    nodes[-2].input.pop()  # ONNX Runtime adds no bias to keys that come by head
    model = make_model(nodes, {"x": [2, 5, WIDTH], "memory": [2, 7, WIDTH]}, ["out"], weights)
    coupling = assert_prunes_exactly(model)
    assert [(g.size, g.kind) for g in coupling.groups] == [(2, "heads"), (4, "head_dims")]


@pytest.mark.parametrize(("form", "parts"), [("qkv", 3), ("kv", 2)])
def test_packed_forms(form: str, parts: int) -> None:
    """Queries, keys and values of a head side by side; ONNX Runtime's CPU build has no kernel for them."""
    coupling = analyse(packed_model(form))
    heads = [list(range(h * parts * 4, (h + 1) * parts * 4)) for h in range(2)]
    assert [u["w:1"] for u in units(coupling)[coupling.groups[0].name]] == heads
    dims = [[h * parts * 4 + p * 4 + d for h in range(2) for p in range(parts)] for d in range(4)]
    assert [u["w:1"] for u in units(coupling)[coupling.groups[1].name]] == dims
    both = pruned(packed_model(form), {coupling.groups[0].name: [1], coupling.groups[1].name: [0, 2, 3]})
    assert attributes(both, "MultiHeadAttention") == pytest.approx({"num_heads": 1, "scale": 0.5})
    assert shapes(both)["wo"] == (3, 5)


def test_decoding_one_step_at_a_time() -> None:
    cache = [BATCH, 2, 4, 3]
    model = attention_model(
        2, 3, 3, op="DecoderMaskedMultiHeadAttention", steps=1, extra=("", "", "past_k", "past_v", "at"),
        outputs=("y", "k2", "v2"), past_present_share_buffer=1,
        weights={"at": np.array([2], np.int32), "past_k": cache, "past_v": cache},
    )  # fmt: skip
    coupling = assert_prunes_exactly(model)
    assert [(g.size, g.kind) for g in coupling.groups] == [(2, "heads"), (3, "head_dims")]
    left = pruned(model, {"wq:1": [1]})
    assert attributes(left, "DecoderMaskedMultiHeadAttention") == {"num_heads": 1, "past_present_share_buffer": 1}


@pytest.mark.parametrize("heads", [4, 0])
def test_heads_that_do_not_divide_the_width_freeze(heads: int) -> None:
    model = attention_model(3, 2, 3)
    for attribute in model.graph.node[3].attribute:
        attribute.i = heads
    coupling = analyse(model, measured={"y": (2, 5, 9)})
    assert coupling.groups == ()


def test_macs_are_those_of_both_products() -> None:
    coupling = analyse(attention_model(3, 2, 3))
    projections = BATCH * STEPS * (WIDTH * (6 + 6 + 9) + 9 * 5)
    assert coupling.cost().macs == projections + BATCH * 3 * STEPS * STEPS * (2 + 3)
