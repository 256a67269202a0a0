"""Transformers as ONNX Runtime's optimisers and builders write them: encoder and decoder layers of fused operators."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.graph.contrib import MICROSOFT
from tests.support.balanced import assert_changes_places, members
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import pruned, shapes

WIDTH, HEADS, SIZE, INNER, WORDS = 8, 2, 4, 10, 11
Weights = dict[str, np.ndarray | list[int]]


def ms(op: str, inputs: list[str], outputs: list[str], **attrs: object) -> onnx.NodeProto:
    return make_node(op, inputs, outputs, domain=MICROSOFT, **attrs)


def bert(form: str) -> onnx.ModelProto:
    """ids [2, 5] -> one layer of BERT -> 3 classes; `form` is Attention or MultiHeadAttention."""
    nodes = [ms("EmbedLayerNormalization", ["ids", "", "words", "places", "", "g0", "b0"], ["h", "lengths"])]
    weights: Weights = {
        "words": [WORDS, WIDTH], "places": [7, WIDTH], **{f"{n}{k}": [WIDTH] for n in "gb" for k in range(3)},
        "wo": [WIDTH, WIDTH], "bo": [WIDTH], "w1": [WIDTH, INNER], "b_1": [INNER], "w2": [INNER, WIDTH],
        "b_2": [WIDTH], "head": [WIDTH, 3],
    }  # fmt: skip
    if form == "Attention":
        nodes.append(ms("Attention", ["h", "wqkv", "bqkv"], ["a"], num_heads=HEADS))
        weights |= {"wqkv": [WIDTH, 3 * WIDTH], "bqkv": [3 * WIDTH]}
    else:
        nodes += [make_node("MatMul", ["h", f"w{n}"], [n]) for n in "qkv"]
        nodes.append(ms("MultiHeadAttention", ["q", "k", "v", "bqkv"], ["a"], num_heads=HEADS))
        weights |= {**{f"w{n}": [WIDTH, WIDTH] for n in "qkv"}, "bqkv": [3 * WIDTH]}
    nodes += [
        make_node("MatMul", ["a", "wo"], ["o"]),
        ms("SkipLayerNormalization", ["o", "h", "g1", "b1", "bo"], ["n"]),
        make_node("MatMul", ["n", "w1"], ["i"]),
        ms("BiasGelu", ["i", "b_1"], ["u"]),
        make_node("MatMul", ["u", "w2"], ["d"]),
        ms("SkipLayerNormalization", ["d", "n", "g2", "b2", "b_2"], ["z"]),
        make_node("MatMul", ["z", "head"], ["out"]),
    ]
    return make_model(nodes, {"ids": [2, 5]}, ["out"], weights, input_types={"ids": onnx.TensorProto.INT32})


def llama(*, packed: bool) -> onnx.ModelProto:
    """x [1, 3, 8] -> one layer of a Llama of 4 heads that share 2, 16 dims each, with 4 steps of cache -> 3 outputs."""
    steps, past, heads, shared, size = 3, 4, 4, 2, 16
    weights: Weights = {
        "g0": [WIDTH], "g1": [WIDTH], "g2": [WIDTH], "wo": [heads * size, WIDTH], "gate": [WIDTH, INNER],
        "up": [WIDTH, INNER], "down": [INNER, WIDTH], "head": [WIDTH, 3],
        "lengths": np.array([past + steps - 1], np.int32), "total": np.array(past + steps, np.int32),
        "cos": [12, size // 2], "sin": [12, size // 2],
        "past_k": [1, shared, past, size], "past_v": [1, shared, past, size],
    }  # fmt: skip
    nodes = [make_node("SimplifiedLayerNormalization", ["x", "g0"], ["h"], axis=-1)]
    if packed:
        weights["wqkv"] = [WIDTH, (heads + 2 * shared) * size]
        nodes.append(make_node("MatMul", ["h", "wqkv"], ["q"]))
        qkv = ["q", "", ""]
    else:
        weights |= {"wq": [WIDTH, heads * size], "wk": [WIDTH, shared * size], "wv": [WIDTH, shared * size]}
        nodes += [make_node("MatMul", ["h", f"w{n}"], [n]) for n in "qkv"]
        qkv = ["q", "k", "v"]
    nodes += [
        ms("GroupQueryAttention", [*qkv, "past_k", "past_v", "lengths", "total", "cos", "sin"], ["a", "k2", "v2"],
           num_heads=heads, kv_num_heads=shared, do_rotary=1),
        make_node("MatMul", ["a", "wo"], ["o"]),
        ms("SkipSimplifiedLayerNormalization", ["x", "o", "g1"], ["n", "", "", "sum1"]),
        make_node("MatMul", ["n", "gate"], ["gated"]),
        ms("QuickGelu", ["gated"], ["s"], alpha=1.0),
        make_node("MatMul", ["n", "up"], ["u"]),
        make_node("Mul", ["s", "u"], ["m"]),
        make_node("MatMul", ["m", "down"], ["d"]),
        ms("SkipSimplifiedLayerNormalization", ["sum1", "d", "g2"], ["z"]),
        make_node("MatMul", ["z", "head"], ["out"]),
    ]  # fmt: skip
    return make_model(nodes, {"x": [1, steps, WIDTH]}, ["out"], weights)


@pytest.mark.parametrize("form", ["Attention", "MultiHeadAttention"])
def test_an_encoder_layer(form: str) -> None:
    coupling = assert_prunes_exactly(bert(form))
    assert sorted((g.kind, g.size, g.exact) for g in coupling.groups) == [
        ("ffn", INNER, True), ("head_dims", SIZE, True), ("head_dims", SIZE, True), ("heads", HEADS, True),
        ("width", WIDTH, False),
    ]  # fmt: skip
    (width,) = [units(coupling)[g.name] for g in coupling.groups if g.kind == "width"]
    columns = {"wqkv:0"} if form == "Attention" else {"wq:0", "wk:0", "wv:0"}
    assert width[3].keys() == {
        "words:1", "places:1", "wo:1", "bo:0", "w1:0", "w2:1", "b_2:0", "head:0", *columns,
        *(f"{n}{k}:0" for n in "gb" for k in range(3)),
    }  # fmt: skip


def test_both_forms_of_an_encoder_have_the_same_choices() -> None:
    one, other = (analyse(bert(form)) for form in ("Attention", "MultiHeadAttention"))
    assert sorted((g.kind, g.size, g.parameters) for g in one.groups) == sorted(
        (g.kind, g.size, g.parameters) for g in other.groups
    )
    assert one.cost() == other.cost()


@pytest.mark.parametrize("packed", [False, True])
def test_a_decoder_layer(packed: bool) -> None:
    """16 turned dims are one block of eight pairs: only heads, hidden units and, were x not an input, the width go."""
    coupling = assert_prunes_exactly(llama(packed=packed))
    assert sorted((g.kind, g.size, g.exact) for g in coupling.groups) == [
        ("ffn", INNER, True), ("heads", 2, True), ("heads", 2, True),
    ]  # fmt: skip


def test_everything_at_once() -> None:
    model = bert("Attention")
    smallest = pruned(model, {g.name: [0] for g in analyse(model).groups})
    assert {name: shape for name, shape in shapes(smallest).items() if name in ("wqkv", "wo", "w1", "w2", "head")} == {
        "wqkv": (1, 3), "wo": (1, 1), "w1": (1, 1), "w2": (1, 1), "head": (1, 3),
    }  # fmt: skip


@pytest.mark.parametrize("form", ["Attention", "MultiHeadAttention"])
def test_each_head_of_an_encoder_may_lose_dims_of_its_own(form: str) -> None:
    coupling = assert_changes_places(bert(form))
    dims = [g.name for g in coupling.groups if g.kind == "head_dims"]
    assert sorted(members(coupling)) == sorted(dims)


def test_each_shared_head_of_a_decoder_may_lose_queries_of_its_own() -> None:
    coupling = assert_changes_places(llama(packed=True))
    (places,) = members(coupling).values()
    assert places["wo:0"] == [
        [[*range(16)], [*range(16, 32)]],
        [[*range(32, 48)], [*range(48, 64)]],
    ]
