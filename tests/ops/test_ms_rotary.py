"""RotaryEmbedding and MRotaryEmbedding of com.microsoft: pairs stay pairs, and their columns of angles go along."""

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

BATCH, STEPS, WIDTH = 2, 5, 6
Weights = dict[str, np.ndarray | list[int]]


def rotary_model(
    heads: int = 2, size: int = 4, turned: int = 0, *, by_head: bool = False, op: str = "RotaryEmbedding",
    ids: np.ndarray | None = None, **attrs: Any,
) -> onnx.ModelProto:  # fmt: skip
    """x [2, 5, 6] -> a projection -> rotary embedding of 2 heads, fused or by head -> a projection to 5."""
    half = (turned or size) // 2
    weights: Weights = {
        "w": [WIDTH, heads * size], "wo": [heads * size, 5], "cos": [9, half], "sin": [9, half],
        "ids": np.tile(np.arange(STEPS), (BATCH, 1)) if ids is None else ids,
    }  # fmt: skip
    nodes, x, out = [make_node("MatMul", ["x", "w"], ["q"])], "q", "y"
    if by_head:
        weights |= {"split": np.array([0, 0, heads, -1]), "flat": np.array([0, 0, -1])}
        nodes += [
            make_node("Reshape", ["q", "split"], ["parts"]),
            make_node("Transpose", ["parts"], ["by_head"], perm=[0, 2, 1, 3]),
        ]
        x, out = "by_head", "joined"
    if turned:
        attrs |= {"rotary_embedding_dim": turned, "num_heads": heads}
    nodes.append(make_node(op, [x, "ids", "cos", "sin"], ["y"], domain=MICROSOFT, **attrs))
    if by_head:
        nodes.append(make_node("Transpose", ["y"], ["back"], perm=[0, 2, 1, 3]))
        nodes.append(make_node("Reshape", ["back", "flat"], ["joined"]))
    nodes.append(make_node("MatMul", [out, "wo"], ["out"]))
    return make_model(nodes, {"x": [BATCH, STEPS, WIDTH]}, ["out"], weights)


def found(model: onnx.ModelProto) -> list[list[dict[str, list[int]]]]:
    return list(units(analyse(model)).values())


@pytest.mark.parametrize("by_head", [False, True])
@pytest.mark.parametrize(("interleaved", "pairs"), [(0, [[0, 2], [1, 3]]), (1, [[0, 1], [2, 3]])])
def test_units(by_head: bool, interleaved: int, pairs: list[list[int]]) -> None:
    heads, dims = found(rotary_model(by_head=by_head, interleaved=interleaved))
    assert heads == [{"w:1": [*range(4 * h, 4 * h + 4)], "wo:0": [*range(4 * h, 4 * h + 4)]} for h in range(2)]
    flat = [[*pair, *(4 + d for d in pair)] for pair in pairs]
    assert dims == [{"w:1": f, "wo:0": f, "cos:1": [i], "sin:1": [i]} for i, f in enumerate(flat)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"interleaved": 1},
        {"by_head": True},
        {"turned": 4, "size": 8},
        {"turned": 4, "size": 8, "by_head": True},
        {"turned": 4, "size": 8, "interleaved": 1},
        {"num_heads": 2},
        {"ids": np.array([3])},
    ],
    ids=str,
)
def test_equals_the_masked_dense_model(options: dict[str, Any]) -> None:
    coupling = assert_prunes_exactly(rotary_model(**options))
    assert all(g.exact for g in coupling.groups)
    assert sorted(g.kind for g in coupling.groups)[-1] == "heads"


def test_what_is_not_turned_goes_in_twos() -> None:
    _, turned, rest = found(rotary_model(size=8, turned=4))
    assert [u["w:1"] for u in turned] == [[0, 2, 8, 10], [1, 3, 9, 11]]
    assert [u["w:1"] for u in rest] == [[4, 5, 12, 13], [6, 7, 14, 15]]


def test_attributes_follow() -> None:
    model = rotary_model(size=8, turned=4)
    heads, turned, rest = (g.name for g in analyse(model).groups)
    assert attributes(pruned(model, {heads: [0]}), "RotaryEmbedding") == {"num_heads": 1, "rotary_embedding_dim": 4}
    assert attributes(pruned(model, {turned: [1]}), "RotaryEmbedding") == {"num_heads": 2, "rotary_embedding_dim": 2}
    thin = pruned(model, {heads: [1], turned: [1], rest: [0]})
    assert attributes(thin, "RotaryEmbedding") == {"num_heads": 1, "rotary_embedding_dim": 2}
    assert shapes(thin) == {"w": (6, 4), "wo": (4, 5), "cos": (9, 1), "sin": (9, 1), "ids": (2, 5)}


def test_attributes_of_the_form_by_head_follow() -> None:
    model = rotary_model(size=8, turned=4, by_head=True)
    heads = analyse(model).groups[0].name
    assert attributes(pruned(model, {heads: [0]}), "RotaryEmbedding") == {"num_heads": 1, "rotary_embedding_dim": 4}


@pytest.mark.parametrize("attrs", [{"num_heads": 3}, {"num_heads": 2, "rotary_embedding_dim": 6}])
def test_sizes_that_do_not_fit_freeze(attrs: dict[str, int]) -> None:
    assert analyse(rotary_model(size=8, **attrs)).groups == ()


def multimodal(**attrs: Any) -> onnx.ModelProto:
    ids = np.stack([np.tile(np.arange(STEPS), (BATCH, 1)) + k for k in range(3)])
    return rotary_model(2, 12, op="MRotaryEmbedding", ids=ids, mrope_section=[3, 2, 1], num_heads=2, **attrs)


def test_sections_of_pairs_follow_what_stays() -> None:
    model = multimodal()
    coupling = assert_prunes_exactly(model)
    heads, dims = (g.name for g in coupling.groups)
    assert attributes(pruned(model, {dims: [0, 2, 5]}), "MRotaryEmbedding") == {
        "mrope_section": [2, 0, 1], "num_heads": 2
    }  # fmt: skip
    assert attributes(pruned(model, {heads: [1]}), "MRotaryEmbedding") == {
        "mrope_section": [3, 2, 1], "num_heads": 1
    }  # fmt: skip


def test_streams_that_take_turns_keep_the_pairs() -> None:
    model = multimodal(mrope_layout=1)
    coupling = assert_prunes_exactly(model)
    assert [g.kind for g in coupling.groups] == ["heads"]
    why = "positions in time, height and width take turns from pair to pair"
    assert [r.why.split(" [")[0] for r in coupling.refusals if (r.tensor, r.axis) == ("cos", 1)] == [why]
    assert attributes(pruned(model, {coupling.groups[0].name: [1]}), "MRotaryEmbedding") == {
        "mrope_layout": 1, "mrope_section": [3, 2, 1], "num_heads": 1,
    }  # fmt: skip
