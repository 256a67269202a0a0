"""Decoder attention: queries that share keys and values, turned by position; and attention across two sequences.

The same block as operators of opset 23 and spelled out in primitives must give the same units.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import attributes, pruned, shapes

BATCH, STEPS, WIDTH, QUERIES, SHARED, SIZE = 1, 5, 6, 4, 2, 4
HALF = SIZE // 2
Weights = dict[str, np.ndarray | list[int]]


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


def projections() -> tuple[list[onnx.NodeProto], Weights]:
    """x [1, 5, 6] -> q of 4 heads, k and v of 2 heads of 4 dims, flat."""
    nodes = [make_node("MatMul", ["x", f"w_{name}"], [f"{name}_flat"]) for name in "qkv"]
    return nodes, {
        "w_q": [WIDTH, QUERIES * SIZE], "w_k": [WIDTH, SHARED * SIZE], "w_v": [WIDTH, SHARED * SIZE],
        "w_out": [QUERIES * SIZE, WIDTH],
    }  # fmt: skip


def fused(opset: int = 23) -> onnx.ModelProto:
    """RotaryEmbedding and Attention on fused heads, the caches looked up by position."""
    nodes, weights = projections()
    for name, heads in (("q", QUERIES), ("k", SHARED)):
        inputs = [f"{name}_flat", "cos", "sin", "positions"]
        nodes.append(make_node("RotaryEmbedding", inputs, [name], num_heads=heads))
    nodes += [
        make_node("Attention", ["q", "k", "v_flat"], ["mixed"], q_num_heads=QUERIES, kv_num_heads=SHARED, is_causal=1),
        make_node("MatMul", ["mixed", "w_out"], ["out"]),
    ]
    weights |= {"cos": [9, HALF], "sin": [9, HALF], "positions": np.arange(STEPS).reshape(1, STEPS)}
    return make_model(nodes, {"x": [BATCH, STEPS, WIDTH]}, ["out"], weights, opset=opset)


def turned(name: str) -> list[onnx.NodeProto]:
    """x * cos + rotate_half(x) * sin, with the caches [1, 1, 5, 4] doubled by a Concat."""
    return [
        make_node("Slice", [f"{name}_rows", "start", "middle", "last_axis"], [f"{name}_low"]),
        make_node("Slice", [f"{name}_rows", "middle", "end", "last_axis"], [f"{name}_high"]),
        make_node("Neg", [f"{name}_high"], [f"{name}_minus"]),
        make_node("Concat", [f"{name}_minus", f"{name}_low"], [f"{name}_turned"], axis=-1),
        make_node("Mul", [f"{name}_rows", "cos"], [f"{name}_cos"]),
        make_node("Mul", [f"{name}_turned", "sin"], [f"{name}_sin"]),
        make_node("Add", [f"{name}_cos", f"{name}_sin"], [name]),
    ]


def spelled_out() -> onnx.ModelProto:
    """What exporters write before opset 23: rotate_half in slices, keys and values repeated by Expand."""
    nodes, weights = projections()
    nodes += [
        make_node("Concat", ["angles", "angles"], ["both"], axis=-1),
        make_node("Cos", ["both"], ["cos"]),
        make_node("Sin", ["both"], ["sin"]),
    ]
    for name, heads in (("q", QUERIES), ("k", SHARED), ("v", SHARED)):
        weights[f"{name}_by_head"] = ints(0, 0, heads, -1)
        nodes += [
            make_node("Reshape", [f"{name}_flat", f"{name}_by_head"], [f"{name}_split"]),
            make_node("Transpose", [f"{name}_split"], [f"{name}_rows"], perm=[0, 2, 1, 3]),
        ]
    nodes += [*turned("q"), *turned("k")]
    for name, source in (("k", "k"), ("v", "v_rows")):
        nodes += [
            make_node("Unsqueeze", [source, "two"], [f"{name}_one"]),
            make_node("Expand", [f"{name}_one", "repeats"], [f"{name}_many"]),
            make_node("Reshape", [f"{name}_many", "as_queries"], [f"{name}_all"]),
        ]
    nodes += [
        make_node("Transpose", ["k_all"], ["k_t"], perm=[0, 1, 3, 2]),
        make_node("MatMul", ["q", "k_t"], ["raw"]),
        make_node("Mul", ["raw", "scale"], ["scores"]),
        make_node("Softmax", ["scores"], ["weights"], axis=-1),
        make_node("MatMul", ["weights", "v_all"], ["heads"]),
        make_node("Transpose", ["heads"], ["heads_last"], perm=[0, 2, 1, 3]),
        make_node("Reshape", ["heads_last", "flat"], ["mixed"]),
        make_node("MatMul", ["mixed", "w_out"], ["out"]),
    ]
    weights |= {
        "angles": [1, 1, STEPS, HALF], "start": ints(0), "middle": ints(HALF), "end": ints(2**31 - 1),
        "last_axis": ints(-1), "two": ints(2), "repeats": ints(BATCH, SHARED, QUERIES // SHARED, STEPS, SIZE),
        "as_queries": ints(BATCH, QUERIES, STEPS, SIZE), "flat": ints(0, 0, -1),
        "scale": np.array(SIZE**-0.5, np.float32),
    }  # fmt: skip
    return make_model(nodes, {"x": [BATCH, STEPS, WIDTH]}, ["out"], weights)


def flat(heads: list[int], dims: list[int]) -> list[int]:
    return [h * SIZE + d for h in heads for d in dims]


ALL = list(range(SIZE))
KEY_HEADS = [
    {"w_q:1": flat([2 * g, 2 * g + 1], ALL), "w_k:1": flat([g], ALL), "w_v:1": flat([g], ALL),
     "w_out:0": flat([2 * g, 2 * g + 1], ALL)} for g in range(SHARED)
]  # fmt: skip
MEMBERS = [{"w_q:1": flat([r, r + 2], ALL), "w_out:0": flat([r, r + 2], ALL)} for r in range(2)]
VALUE_DIMS = [{"w_v:1": flat([0, 1], [d]), "w_out:0": flat([0, 1, 2, 3], [d])} for d in range(SIZE)]


def pairs(*tables: str) -> list[dict[str, list[int]]]:
    return [
        {"w_q:1": flat([0, 1, 2, 3], [i, i + HALF]), "w_k:1": flat([0, 1], [i, i + HALF]), **{t: [i] for t in tables}}
        for i in range(HALF)
    ]


@pytest.mark.parametrize(
    ("model", "tables"),
    [(fused(23), ("cos:1", "sin:1")), (fused(24), ("cos:1", "sin:1")), (spelled_out(), ("angles:3",))],
    ids=["opset 23", "opset 24", "spelled out"],
)
def test_units_of_grouped_rotary_attention(model: onnx.ModelProto, tables: tuple[str, ...]) -> None:
    coupling = assert_prunes_exactly(model)
    found = list(units(coupling).values())
    for group in (KEY_HEADS, MEMBERS, VALUE_DIMS, pairs(*tables)):
        assert group in found
    assert len(found) == 4
    assert sorted((g.kind, g.size) for g in coupling.groups) == [
        ("head_dims", 2), ("head_dims", 4), ("heads", 2), ("heads", 2),
    ]  # fmt: skip
    assert all(g.exact for g in coupling.groups)


def test_every_size_follows_in_the_fused_block() -> None:
    model = fused()
    choices = ((KEY_HEADS, [1]), (MEMBERS, [0]), (VALUE_DIMS, [0, 2, 3]), (pairs("cos:1", "sin:1"), [1]))
    found = units(analyse(model)).items()
    edited = pruned(model, {name: kept for name, members in found for group, kept in choices if members == group})
    assert attributes(edited, "Attention") == {
        "q_num_heads": 1, "kv_num_heads": 1, "is_causal": 1, "scale": 0.5,
    }  # fmt: skip
    rotary = [n for n in edited.graph.node if n.op_type == "RotaryEmbedding"]
    assert [a.i for n in rotary for a in n.attribute] == [1, 1]
    sizes = shapes(edited)
    assert (sizes["w_q"], sizes["w_k"], sizes["w_v"], sizes["w_out"]) == ((6, 2), (6, 2), (6, 3), (3, 6))
    assert sizes["cos"] == sizes["sin"] == (9, 1)


def cross(opset: int) -> onnx.ModelProto:
    """Queries of one sequence attend to another of its own width; by primitives below opset 23."""
    weights: Weights = {
        "w_q": [6, 6], "b_q": [6], "w_k": [8, 6], "w_v": [8, 6], "w_out": [6, 5], "by_head": ints(0, 0, 3, -1),
        "flat": ints(0, 0, -1), "scale": np.array(2**-0.5, np.float32),
    }  # fmt: skip
    nodes = [
        make_node("MatMul", ["x", "w_q"], ["q_raw"]),
        make_node("Add", ["q_raw", "b_q"], ["q_flat"]),
        make_node("MatMul", ["memory", "w_k"], ["k_flat"]),
        make_node("MatMul", ["memory", "w_v"], ["v_flat"]),
    ]
    if opset >= 23:
        heads = {"q_num_heads": 3, "kv_num_heads": 3}
        nodes.append(make_node("Attention", ["q_flat", "k_flat", "v_flat"], ["mixed"], **heads))
    else:
        for name, perm in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
            nodes += [
                make_node("Reshape", [f"{name}_flat", "by_head"], [f"{name}_split"]),
                make_node("Transpose", [f"{name}_split"], [name], perm=perm),
            ]
        nodes += [
            make_node("MatMul", ["q", "k"], ["raw"]),
            make_node("Mul", ["raw", "scale"], ["scores"]),
            make_node("Softmax", ["scores"], ["weights"], axis=-1),
            make_node("MatMul", ["weights", "v"], ["heads"]),
            make_node("Transpose", ["heads"], ["heads_last"], perm=[0, 2, 1, 3]),
            make_node("Reshape", ["heads_last", "flat"], ["mixed"]),
        ]
    nodes.append(make_node("MatMul", ["mixed", "w_out"], ["out"]))
    return make_model(nodes, {"x": [2, 4, 6], "memory": [2, 7, 8]}, ["out"], weights, opset=opset)


@pytest.mark.parametrize("opset", [13, 17, 23])
def test_cross_attention(opset: int) -> None:
    coupling = assert_prunes_exactly(cross(opset))
    found = list(units(coupling).values())
    rows = [[2 * h, 2 * h + 1] for h in range(3)]
    assert [{"w_q:1": r, "b_q:0": r, "w_k:1": r, "w_v:1": r, "w_out:0": r} for r in rows] in found
    columns = [[d, d + 2, d + 4] for d in range(2)]
    assert [{"w_q:1": c, "b_q:0": c, "w_k:1": c} for c in columns] in found
    assert [{"w_v:1": c, "w_out:0": c} for c in columns] in found
    assert len(found) == 3
