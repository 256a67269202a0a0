"""LinearAttention of ai.onnx and com.microsoft: heads, dims of keys, dims of values, gates and state."""

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
from tests.support.pruned import attributes, pruned

Weights = dict[str, np.ndarray | list[int]]
STEPS, WIDTH = 3, 5


def linear_model(
    queries: int = 2, shared: int = 2, size: int = 2, depth: int = 3, *, rule: str = "linear", decay: int = 0,
    beta: int = 0, past: bool = False, domain: str = MICROSOFT, **attrs: Any,
) -> onnx.ModelProto:  # fmt: skip
    """x [2, 3, 5] -> q, k, v (and gates of `decay` and `beta` columns) -> LinearAttention -> a projection to 4."""
    weights: Weights = {
        "wq": [WIDTH, queries * size], "wk": [WIDTH, shared * size], "wv": [WIDTH, shared * depth],
        "wo": [max(queries, shared) * depth, 4],
    }  # fmt: skip
    gates = {name: columns for name, columns in (("decay", decay), ("beta", beta)) if columns}
    weights |= {f"w{name}": [WIDTH, columns] for name, columns in gates.items()}
    nodes = [make_node("MatMul", ["x", f"w{n}"], [n]) for n in (*"qkv", *gates)]
    inputs = ["q", "k", "v", "past" if past else "", *(name if name in gates else "" for name in ("decay", "beta"))]
    if past:
        weights["past"] = [2, shared, size, depth]
    nodes += [
        make_node("LinearAttention", inputs, ["y", "state"], domain=domain, q_num_heads=queries,
                  kv_num_heads=shared, update_rule=rule, **attrs),
        make_node("MatMul", ["y", "wo"], ["out"]),
    ]  # fmt: skip
    return make_model(nodes, {"x": [2, STEPS, WIDTH]}, ["out"], weights, opset=17 if domain else 27)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"past": True},
        {"rule": "gated", "decay": 2},
        {"rule": "gated", "decay": 4},
        {"rule": "delta", "beta": 2},
        {"rule": "delta", "beta": 1},
        {"rule": "gated_delta", "decay": 4, "beta": 2, "past": True},
        {"queries": 4},
        {"queries": 2, "shared": 4},
    ],
    ids=str,
)
def test_equals_the_masked_dense_model(options: dict[str, Any]) -> None:
    coupling = assert_prunes_exactly(linear_model(**options), tolerance=1e-3)
    kinds = [g.kind for g in coupling.groups]
    assert kinds.count("head_dims") == 2
    assert kinds.count("heads") == (1 if options.get("queries", 2) == options.get("shared", 2) else 2)
    assert all(g.exact for g in coupling.groups)


def test_units() -> None:
    found = units(analyse(linear_model(rule="gated", decay=4, past=True)))
    assert [*found.values()] == [
        [
            {
                "wq:1": [2 * h, 2 * h + 1], "wk:1": [2 * h, 2 * h + 1], "wdecay:1": [2 * h, 2 * h + 1],
                "wv:1": [3 * h, 3 * h + 1, 3 * h + 2], "wo:0": [3 * h, 3 * h + 1, 3 * h + 2], "past:1": [h],
            }
            for h in range(2)
        ],
        [{"wq:1": [d, 2 + d], "wk:1": [d, 2 + d], "wdecay:1": [d, 2 + d], "past:2": [d]} for d in range(2)],
        [{"wv:1": [d, 3 + d], "wo:0": [d, 3 + d], "past:3": [d]} for d in range(3)],
    ]  # fmt: skip


def test_attributes_follow() -> None:
    model = linear_model(queries=4)
    by_kind = {(g.kind, g.size, i): g.name for i, g in enumerate(analyse(model).groups)}
    shared, dims, members = by_kind["heads", 2, 0], by_kind["head_dims", 2, 1], by_kind["heads", 2, 2]
    heads = attributes(pruned(model, {shared: [1]}), "LinearAttention")
    assert (heads["q_num_heads"], heads["kv_num_heads"]) == (2, 1)
    heads = attributes(pruned(model, {members: [1]}), "LinearAttention")
    assert (heads["q_num_heads"], heads["kv_num_heads"]) == (2, 2)
    thin = attributes(pruned(model, {dims: [1]}), "LinearAttention")
    assert (thin["q_num_heads"], thin["kv_num_heads"]) == (4, 2)
    assert thin["scale"] == pytest.approx(2**-0.5)


def test_heads_that_do_not_share_freeze() -> None:
    model = linear_model(queries=4)
    for attribute in model.graph.node[3].attribute:
        if attribute.name == "q_num_heads":
            attribute.i = 3
    why = "3 heads of queries and 2 of keys and values do not share 8 dims"
    refusals = analyse(model, measured={"y": (2, 3, 12), "state": (2, 2, 2, 3)}).refusals
    assert {r.why.split(" [")[0] for r in refusals if (r.tensor, r.axis) == ("wq", 1)} == {why}


def test_that_of_onnx_has_the_same_units_and_attributes() -> None:
    """ONNX Runtime does not run it yet."""
    options = {"queries": 4, "rule": "gated_delta", "decay": 4, "beta": 2, "past": True}
    theirs, ours = linear_model(**options), linear_model(**options, domain="")
    assert units(analyse(ours)) == units(analyse(theirs))
    choice = {g.name: [0] for g in analyse(ours).groups}
    assert attributes(pruned(ours, choice), "LinearAttention") == attributes(pruned(theirs, choice), "LinearAttention")
