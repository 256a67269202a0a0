"""Attention and RotaryEmbedding of opset 23: heads, head dims and shared heads, and the sizes the node carries."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import attributes, pruned, shapes

BATCH, STEPS, WIDTH = 2, 5, 6
Weights = dict[str, np.ndarray | list[int]]


def attention_model(
    heads: int = 4, shared: int = 2, size: int = 4, depth: int = 3, *, by_head: bool = False, opset: int = 23,
    extra_inputs: tuple[str, ...] = (), outputs: tuple[str, ...] = ("y",), weights: Weights | None = None,
    inputs: dict[str, list[int]] | None = None, results: tuple[str, ...] = (), **attrs: object,
) -> onnx.ModelProto:  # fmt: skip
    """x [2, 5, 6] -> three projections -> Attention, fused or by head -> a projection to 5 outputs."""
    all_weights: Weights = {
        "wq": [WIDTH, heads * size], "wk": [WIDTH, shared * size], "wv": [WIDTH, shared * depth],
        "wo": [heads * depth, 5], **(weights or {}),
    }  # fmt: skip
    nodes = [make_node("MatMul", ["x", f"w{n}"], [n]) for n in "qkv"]
    operands, out = ["q", "k", "v"], "y"
    if by_head:
        for name, count in zip("qkv", (heads, shared, shared), strict=True):
            all_weights[f"{name}_shape"] = np.array([0, 0, count, -1])
            nodes += [
                make_node("Reshape", [name, f"{name}_shape"], [f"{name}_split"]),
                make_node("Transpose", [f"{name}_split"], [f"{name}_by_head"], perm=[0, 2, 1, 3]),
            ]
        operands, out = [f"{n}_by_head" for n in "qkv"], "joined"
        all_weights["flat"] = np.array([0, 0, -1])
    else:
        attrs |= {"q_num_heads": heads, "kv_num_heads": shared}
    nodes.append(make_node("Attention", [*operands, *extra_inputs], list(outputs), **attrs))
    if by_head:
        nodes.append(make_node("Transpose", ["y"], ["back"], perm=[0, 2, 1, 3]))
        nodes.append(make_node("Reshape", ["back", "flat"], ["joined"]))
    nodes.append(make_node("MatMul", [out, "wo"], ["out"]))
    graph_inputs = {"x": [BATCH, STEPS, WIDTH], **(inputs or {})}
    return make_model(nodes, graph_inputs, ["out", *results], all_weights, opset=opset)


def rotary_model(
    heads: int = 2, size: int = 4, turned: int = 0, *, by_head: bool = False, positions: bool = True,
    interleaved: int = 0,
) -> onnx.ModelProto:  # fmt: skip
    """x [2, 5, 6] -> a projection -> RotaryEmbedding with stored caches, fused or by head -> a projection."""
    half = (turned or size) // 2
    leading = [9] if positions else [BATCH, STEPS]
    weights: Weights = {
        "w": [WIDTH, heads * size], "wo": [heads * size, 5], "cos": [*leading, half], "sin": [*leading, half],
    }  # fmt: skip
    nodes, x, out = [make_node("MatMul", ["x", "w"], ["q"])], "q", "y"
    attrs: dict[str, int] = {"num_heads": heads}
    if by_head:
        weights |= {"split": np.array([0, 0, heads, -1]), "flat": np.array([0, 0, -1])}
        nodes += [
            make_node("Reshape", ["q", "split"], ["parts"]),
            make_node("Transpose", ["parts"], ["by_head"], perm=[0, 2, 1, 3]),
        ]
        x, out, attrs = "by_head", "joined", {"num_heads": heads} if turned else {}  # ONNX Runtime wants both
    if turned:
        attrs["rotary_embedding_dim"] = turned
    if interleaved:
        attrs["interleaved"] = interleaved
    inputs = [x, "cos", "sin"]
    if positions:
        weights["ids"] = np.tile(np.arange(STEPS), (BATCH, 1))
        inputs.append("ids")
    nodes.append(make_node("RotaryEmbedding", inputs, ["y"], **attrs))
    if by_head:
        nodes.append(make_node("Transpose", ["y"], ["back"], perm=[0, 2, 1, 3]))
        nodes.append(make_node("Reshape", ["back", "flat"], ["joined"]))
    nodes.append(make_node("MatMul", [out, "wo"], ["out"]))
    return make_model(nodes, {"x": [BATCH, STEPS, WIDTH]}, ["out"], weights, opset=23)


def groups_of(model: onnx.ModelProto, **options: object) -> list[list[dict[str, list[int]]]]:
    """Units of every group, without the groups' names."""
    return list(units(analyse(model, **options)).values())


def test_units_of_grouped_queries() -> None:
    """Four queries' heads of 2 dims share two heads of keys and values."""
    coupling = analyse(attention_model(size=2, depth=2))
    assert units(coupling) == {
        "wq:1": [  # a shared head takes two heads of queries along
            {"wk:1": [0, 1], "wv:1": [0, 1], "wq:1": [0, 1, 2, 3], "wo:0": [0, 1, 2, 3]},
            {"wk:1": [2, 3], "wv:1": [2, 3], "wq:1": [4, 5, 6, 7], "wo:0": [4, 5, 6, 7]},
        ],
        "wq:1#2": [{"wq:1": [0, 2, 4, 6], "wk:1": [0, 2]}, {"wq:1": [1, 3, 5, 7], "wk:1": [1, 3]}],
        "wq:1#3": [  # the same member of the queries of every shared head
            {"wq:1": [0, 1, 4, 5], "wo:0": [0, 1, 4, 5]},
            {"wq:1": [2, 3, 6, 7], "wo:0": [2, 3, 6, 7]},
        ],
        "wv:1": [{"wv:1": [0, 2], "wo:0": [0, 2, 4, 6]}, {"wv:1": [1, 3], "wo:0": [1, 3, 5, 7]}],
    }
    assert [g.kind for g in coupling.groups] == ["heads", "head_dims", "heads", "head_dims"]


def test_a_head_of_plain_attention_is_a_head_of_all_three() -> None:
    assert groups_of(attention_model(heads=3, shared=3, size=2, depth=1))[0] == [
        {"wq:1": [2 * h, 2 * h + 1], "wk:1": [2 * h, 2 * h + 1], "wv:1": [h], "wo:0": [h]} for h in range(3)
    ]


def test_one_shared_head_leaves_the_heads_of_queries_to_choose_from() -> None:
    assert groups_of(attention_model(heads=3, shared=1, size=2, depth=2))[1] == [
        {"wq:1": [2 * h, 2 * h + 1], "wo:0": [2 * h, 2 * h + 1]} for h in range(3)
    ]


@pytest.mark.parametrize("opset", [23, 24])
@pytest.mark.parametrize("by_head", [False, True])
@pytest.mark.parametrize(("heads", "shared"), [(4, 4), (4, 2), (6, 2), (3, 1)])
def test_removal_is_exact(heads: int, shared: int, by_head: bool, opset: int) -> None:
    model = attention_model(heads, shared, by_head=by_head, opset=opset, is_causal=1, softcap=3.0)
    coupling = assert_prunes_exactly(model, seeds=range(2))
    assert all(g.exact for g in coupling.groups)


def test_the_default_scale_is_pinned_where_head_dims_go() -> None:
    edited = pruned(attention_model(), {"wq:1": [0], "wq:1#2": [1, 2, 3]})
    assert attributes(edited, "Attention") == {
        "q_num_heads": 2, "kv_num_heads": 1, "scale": np.float32(1 / math.sqrt(4)),
    }  # fmt: skip
    assert shapes(edited) == {"wq": (6, 6), "wk": (6, 3), "wv": (6, 3), "wo": (6, 5)}


def test_the_scale_stays_unsaid_where_heads_alone_go() -> None:
    edited = pruned(attention_model(), {"wq:1#3": [1], "wv:1": [0, 2]})
    assert attributes(edited, "Attention") == {"q_num_heads": 2, "kv_num_heads": 2}


def test_a_scale_that_the_file_states_stays() -> None:
    edited = pruned(attention_model(scale=0.25), {"wq:1#2": [1]})
    assert attributes(edited, "Attention")["scale"] == 0.25


def test_by_head_the_node_states_no_heads() -> None:
    model = attention_model(by_head=True)
    edited = pruned(model, {g.name: [0] for g in analyse(model).groups})
    assert attributes(edited, "Attention") == {"scale": 0.5}
    assert shapes(edited)["wq"] == (6, 1)


def test_head_counts_that_do_not_divide_freeze() -> None:
    model = attention_model(heads=4, shared=4, size=3, depth=3)
    (node,) = [n for n in model.graph.node if n.op_type == "Attention"]
    next(a for a in node.attribute if a.name == "kv_num_heads").i = 3
    coupling = analyse(model)
    assert coupling.groups == ()
    assert "4 heads of queries do not share 3 heads of keys and values" in {r.why for r in coupling.refusals} | {
        r.why.partition(" [")[0] for r in coupling.refusals
    }


def test_a_stored_bias_by_head_loses_its_head() -> None:
    model = attention_model(extra_inputs=("bias",), weights={"bias": [1, 4, STEPS, STEPS]})
    coupling = assert_prunes_exactly(model, seeds=range(2))
    (first, *_), *_ = units(coupling).values()
    assert first["bias:1"] == [0, 1]
    assert {r.why for r in coupling.refusals if r.tensor == "bias"} == {"sequence positions stay"}


def test_a_bias_without_heads_stays() -> None:
    coupling = assert_prunes_exactly(
        attention_model(extra_inputs=("bias",), weights={"bias": [STEPS, STEPS]}), seeds=range(2)
    )
    assert not any("bias:0" in unit or "bias:1" in unit for group in units(coupling).values() for unit in group)


CACHE = {"past_k": [BATCH, 2, 3, 4], "past_v": [BATCH, 2, 3, 3]}


def cached_model() -> onnx.ModelProto:
    return attention_model(
        extra_inputs=("", "past_k", "past_v"), inputs=CACHE, outputs=("y", "next_k", "next_v"),
        results=("next_k", "next_v"),
    )  # fmt: skip


def test_a_cache_in_the_model_s_inputs_keeps_shared_heads_and_dims() -> None:
    coupling = assert_prunes_exactly(cached_model(), seeds=range(2))
    assert [(g.name, g.kind) for g in coupling.groups] == [("wq:1", "heads")]  # the queries of each shared head


def test_a_cache_that_may_shrink_follows() -> None:
    allowed = ["past_k", "past_v", "next_k", "next_v"]
    model = cached_model()
    edited = pruned(model, {"wq:1": [1], "wq:1#2": [0, 3], "wv:1": [1]}, allow_io_change=allowed)
    borders = [*edited.graph.input[1:], *edited.graph.output[1:]]
    assert {b.name: [d.dim_value for d in b.type.tensor_type.shape.dim] for b in borders} == {
        "past_k": [2, 1, 3, 2], "past_v": [2, 1, 3, 1], "next_k": [2, 1, 8, 2], "next_v": [2, 1, 8, 1],
    }  # fmt: skip


def test_scores_as_an_output_keep_the_heads() -> None:
    model = attention_model(outputs=("y", "", "", "scores"), results=("scores",))
    coupling = assert_prunes_exactly(model, seeds=range(2))
    assert {g.kind for g in coupling.groups} == {"head_dims"}


def test_lengths_of_an_outside_cache() -> None:
    model = attention_model(
        opset=24, extra_inputs=("", "", "", "lengths"), weights={"lengths": np.array([5, 3], np.int64)}
    )
    assert_prunes_exactly(model, seeds=range(2))


def test_macs_of_scores_and_of_the_mix() -> None:
    """Per query head and pair of positions: 4 dims of keys, 3 of values; with 3 positions in the cache."""
    projections = BATCH * STEPS * (WIDTH * (16 + 8 + 6) + 12 * 5)
    assert analyse(cached_model()).cost().macs == projections + BATCH * 4 * STEPS * (STEPS + 3) * (4 + 3)


# -- rotary embedding -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_head", [False, True])
def test_pairs_of_halves_stay_pairs(by_head: bool) -> None:
    heads = [{"w:1": [4 * h, 4 * h + 1, 4 * h + 2, 4 * h + 3], "wo:0": [4 * h, 4 * h + 1, 4 * h + 2, 4 * h + 3]}
             for h in range(2)]  # fmt: skip
    pairs = [{"w:1": [i, i + 2, i + 4, i + 6], "wo:0": [i, i + 2, i + 4, i + 6], "cos:1": [i], "sin:1": [i]}
             for i in range(2)]  # fmt: skip
    found = groups_of(rotary_model(by_head=by_head))
    assert len(found) == 2
    assert heads in found
    assert pairs in found


def test_interleaved_pairs_are_neighbours() -> None:
    found = groups_of(rotary_model(interleaved=1))
    assert [{"w:1": [0, 1, 4, 5], "wo:0": [0, 1, 4, 5], "cos:1": [0], "sin:1": [0]},
            {"w:1": [2, 3, 6, 7], "wo:0": [2, 3, 6, 7], "cos:1": [1], "sin:1": [1]}] in found  # fmt: skip


def test_what_is_not_turned_is_chosen_apart_and_keeps_the_head_size_even() -> None:
    found = groups_of(rotary_model(heads=1, size=8, turned=4))
    assert found == [
        [{"w:1": [i, i + 2], "wo:0": [i, i + 2], "cos:1": [i], "sin:1": [i]} for i in range(2)],
        [{"w:1": [i, i + 1], "wo:0": [i, i + 1]} for i in (4, 6)],
    ]


@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("by_head", [False, True])
@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("turned", [0, 4])
def test_rotary_removal_is_exact(turned: int, interleaved: int, by_head: bool, positions: bool) -> None:
    model = rotary_model(3, 8, turned, by_head=by_head, positions=positions, interleaved=interleaved)
    coupling = assert_prunes_exactly(model, seeds=range(2))
    assert len(coupling.groups) == (3 if turned else 2)


def test_rotary_sizes_follow() -> None:
    model = rotary_model(3, 8, 4)
    assert [(g.name, g.kind, g.size) for g in analyse(model).groups] == [
        ("w:1", "heads", 3), ("w:1#2", "head_dims", 2), ("w:1#3", "head_dims", 2),
    ]  # fmt: skip
    edited = pruned(model, {"w:1": [0, 2], "w:1#2": [1]})
    assert attributes(edited, "RotaryEmbedding") == {"num_heads": 2, "rotary_embedding_dim": 2}
    assert shapes(edited)["cos"] == (9, 1)
    assert shapes(edited)["w"] == (6, 12)


def test_a_full_turn_stays_unsaid() -> None:
    edited = pruned(rotary_model(2, 4), {"w:1#2": [1]})
    assert attributes(edited, "RotaryEmbedding") == {"num_heads": 2}


def test_a_cache_of_another_width_freezes() -> None:
    model = rotary_model(2, 8, 4)
    (node,) = [n for n in model.graph.node if n.op_type == "RotaryEmbedding"]
    next(a for a in node.attribute if a.name == "rotary_embedding_dim").i = 6
    coupling = analyse(model)
    assert coupling.groups == ()
    assert any(r.why.startswith("cos has 2 columns for 3 pairs") for r in coupling.refusals)
