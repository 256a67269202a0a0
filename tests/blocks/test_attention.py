"""Attention as exporters spell it: QKV fused and taken apart, window tables, one table for embedding and head."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from tests.support.literals import constant, group_with, inputs_of
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import pruned

BATCH, STEPS, WIDTH, HEADS, SIZE = 2, 5, 6, 3, 4
INNER = HEADS * SIZE


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


def scaled_dot_product(bias: str | None = None) -> list[onnx.NodeProto]:
    """q, k, v [B, H, N, D] -> joined [B, N, H * D]."""
    return [
        make_node("Transpose", ["k"], ["k_t"], perm=[0, 1, 3, 2]),
        make_node("MatMul", ["q", "k_t"], ["scores" if bias is None else "unbiased"]),
        *([] if bias is None else [make_node("Add", ["unbiased", bias], ["scores"])]),
        make_node("Softmax", ["scores"], ["weights"], axis=-1),
        make_node("MatMul", ["weights", "v"], ["heads"]),
        make_node("Transpose", ["heads"], ["heads_last"], perm=[0, 2, 1, 3]),
        make_node("Reshape", ["heads_last", "flat"], ["joined"]),
        make_node("MatMul", ["joined", "w_out"], ["out"]),
    ]


STACKED = [
    make_node("Reshape", ["fused", "five"], ["split"]),
    make_node("Transpose", ["split"], ["stack"], perm=[2, 0, 3, 1, 4]),
]
"""qkv.reshape(B, N, 3, H, D).permute(2, 0, 3, 1, 4), of which q, k and v are one index each."""
BY_INDEX = [*STACKED, *(make_node("Gather", ["stack", f"i{k}"], [name], axis=0) for k, name in enumerate("qkv"))]
BY_UNBIND = [
    *STACKED,
    make_node("Split", ["stack"], ["q_one", "k_one", "v_one"], axis=0),
    *(make_node("Squeeze", [f"{name}_one", "front"], [name]) for name in "qkv"),
]


def by_split() -> list[onnx.NodeProto]:
    """qkv.chunk(3, -1), each reshaped to heads; GPT-2's spelling."""
    return [
        make_node("Split", ["fused"], ["q_flat", "k_flat", "v_flat"], axis=2),
        *(
            node
            for name in "qkv"
            for node in (
                make_node("Reshape", [f"{name}_flat", "by_head"], [f"{name}_rows"]),
                make_node("Transpose", [f"{name}_rows"], [name], perm=[0, 2, 1, 3]),
            )
        ),
    ]


def fused(take_apart: list[onnx.NodeProto]) -> onnx.ModelProto:
    """x [2, 5, 6] -> a projection to q, k and v side by side -> attention -> a projection."""
    return make_model(
        [
            make_node("MatMul", ["x", "w"], ["bare"]),
            make_node("Add", ["bare", "b"], ["fused"]),
            *take_apart,
            *scaled_dot_product(),
        ],
        {"x": [BATCH, STEPS, WIDTH]},
        ["out"],
        {
            "w": [WIDTH, 3 * INNER], "b": [3 * INNER], "w_out": [INNER, WIDTH], "front": ints(0),
            "five": ints(BATCH, STEPS, 3, HEADS, SIZE), "by_head": ints(BATCH, STEPS, HEADS, SIZE),
            "flat": ints(BATCH, STEPS, -1), **{f"i{k}": np.asarray(k, np.int64) for k in range(3)},
        },
    )  # fmt: skip


Q, K, V = (np.arange(INNER).reshape(HEADS, SIZE) + part * INNER for part in range(3))
ROWS = np.arange(INNER).reshape(HEADS, SIZE)


@pytest.mark.parametrize("take_apart", [by_split(), BY_INDEX, BY_UNBIND], ids=["split", "index", "unbind"])
def test_fused_qkv_gives_heads(take_apart: list[onnx.NodeProto]) -> None:
    coupling = assert_prunes_exactly(fused(take_apart), seeds=range(4))
    (found,) = [units(coupling)[g.name] for g in coupling.groups if g.kind == "heads"]
    assert found == [_unit([Q[h], K[h], V[h]], [ROWS[h]]) for h in range(HEADS)]


def test_split_qkv_gives_the_dims_of_q_and_k_and_those_of_v() -> None:
    coupling = analyse(fused(by_split()))
    found = [units(coupling)[g.name] for g in coupling.groups if g.kind == "head_dims"]
    assert found == [
        [_unit([Q[:, d], K[:, d]], []) for d in range(SIZE)],
        [_unit([V[:, d]], [ROWS[:, d]]) for d in range(SIZE)],
    ]


@pytest.mark.parametrize("take_apart", [BY_INDEX, BY_UNBIND], ids=["index", "unbind"])
def test_stacked_qkv_has_one_length_of_head_dims(take_apart: list[onnx.NodeProto]) -> None:
    coupling = analyse(fused(take_apart))
    (found,) = [units(coupling)[g.name] for g in coupling.groups if g.kind == "head_dims"]
    assert found == [_unit([Q[:, d], K[:, d], V[:, d]], [ROWS[:, d]]) for d in range(SIZE)]


def _unit(fused: list[np.ndarray], out: list[np.ndarray]) -> dict[str, list[int]]:
    """The columns of the fused projection and the rows of the last one that go together."""
    columns, rows = (np.sort(np.concatenate([*parts, np.empty(0, int)])).astype(int).tolist() for parts in (fused, out))
    return {"w:1": columns, "b:0": columns} | ({"w_out:0": rows} if rows else {})


def test_heads_of_unequal_head_dims_leave_an_uneven_split() -> None:
    """Fewer dims of q and k than of v: three equal parts no longer, so their sizes are written out."""
    model = make_model(
        [make_node("MatMul", ["x", "w"], ["fused"]), *by_split(), *scaled_dot_product()],
        {"x": [BATCH, STEPS, WIDTH]},
        ["out"],
        {
            "w": [WIDTH, 3 * INNER], "w_out": [INNER, WIDTH], "by_head": ints(0, 0, HEADS, -1), "flat": ints(0, 0, -1),
        },
    )  # fmt: skip
    heads, of_v = group_with(model, "w_out:0", *ROWS[0]), group_with(model, "w_out:0", *ROWS[:, 0])
    (of_q,) = {g.name for g in analyse(model).groups} - {heads, of_v}
    edited = pruned(model, {heads: [0, 2], of_q: [0], of_v: [0, 1, 3]})
    assert inputs_of(edited, "Split", 1) == [[2, 2, 6]]


def test_window_attention_with_a_relative_position_table() -> None:
    """Swin (https://arxiv.org/abs/2103.14030): a table [T, heads] is looked up by a constant vector of window pairs."""
    window, rows = 4, 7
    pairs = np.asarray([i - j + 3 for i in range(window) for j in range(window)], np.int64)
    model = make_model(
        [
            make_node("MatMul", ["x", "w"], ["bare"]),
            make_node("Add", ["bare", "b"], ["fused"]),
            *by_split(),
            make_node("Gather", ["table", "pairs"], ["picked"], axis=0),
            make_node("Reshape", ["picked", "square"], ["bias_last"]),
            make_node("Transpose", ["bias_last"], ["bias_first"], perm=[2, 0, 1]),
            make_node("Unsqueeze", ["bias_first", "front"], ["bias"]),
            *scaled_dot_product("bias"),
        ],
        {"x": [6, window, WIDTH]},
        ["out"],
        {
            "w": [WIDTH, 3 * INNER], "b": [3 * INNER], "w_out": [INNER, WIDTH], "table": [rows, HEADS], "pairs": pairs,
            "front": ints(0), "by_head": ints(6, window, HEADS, SIZE), "square": ints(window, window, HEADS),
            "flat": ints(6, window, -1),
        },
    )  # fmt: skip
    coupling = assert_prunes_exactly(model, seeds=range(4))
    (heads,) = [g.name for g in coupling.groups if g.kind == "heads"]
    assert [unit["table:1"] for unit in units(coupling)[heads]] == [[0], [1], [2]]
    assert ("table", 0) in {(r.tensor, r.axis) for r in coupling.refusals}
    edited = pruned(model, {heads: [0, 2]})
    assert inputs_of(edited, "Gather", 1) == [pairs.tolist()]
    assert constant(edited, "table").shape == (rows, 2)
    assert constant(edited, "square").tolist() == [window, window, 2]


def test_tied_embedding_and_transposed_head() -> None:
    """One table looked up in front and multiplied at the end: width goes from both, the vocabulary stays."""
    model = make_model(
        [
            make_node("Gather", ["table", "ids"], ["h"]),
            make_node("MatMul", ["h", "w1"], ["inner"]),
            make_node("Relu", ["inner"], ["active"]),
            make_node("MatMul", ["active", "w2"], ["back"]),
            make_node("Add", ["h", "back"], ["sum"]),
            make_node("Transpose", ["table"], ["head"], perm=[1, 0]),
            make_node("MatMul", ["sum", "head"], ["out"]),
        ],
        {"ids": [2, 3]},
        ["out"],
        {"table": [9, 6], "w1": [6, 5], "w2": [5, 6]},
        input_types={"ids": onnx.TensorProto.INT64},
    )
    coupling = assert_prunes_exactly(model, seeds=range(4))
    assert units(coupling) == {
        "table:1": [{"table:1": [i], "w1:0": [i], "w2:1": [i]} for i in range(6)],
        "w1:1": [{"w1:1": [i], "w2:0": [i]} for i in range(5)],
    }
