"""One axis that is split two ways: 4 heads of 6 beside 8 heads of 3, as 12 x 64 beside 24 x 32."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from tests.support.balanced import assert_changes_places, members
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import pruned

BATCH, STEPS, WIDTH, INNER = 2, 5, 6, 24
FEW, MANY = 4, 8  # heads
SIZE, HALF = INNER // FEW, INNER // MANY


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


def attention(name: str, heads: int, *, computed: bool) -> tuple[list[onnx.NodeProto], dict]:
    """Queries of their own, keys and values in common, joined by `o_NAME`.

    `computed`: sizes are taken from Shape, as TorchScript's exporter spells `view(B, T, heads, -1)`; otherwise they
    are written out, as torch.export's does for fixed sizes.
    """
    nodes: list[onnx.NodeProto] = [make_node("MatMul", ["x", f"q_{name}"], [f"{name}_q"])]
    weights: dict = {f"q_{name}": [WIDTH, INNER], f"o_{name}": [INNER, WIDTH]}
    if computed:
        nodes += [
            make_node("Shape", ["x"], [f"{name}_size"]),
            make_node("Gather", [f"{name}_size", "i0"], [f"{name}_b"], axis=0),
            make_node("Gather", [f"{name}_size", "i1"], [f"{name}_t"], axis=0),
            make_node("Unsqueeze", [f"{name}_b", "front"], [f"{name}_b1"]),
            make_node("Unsqueeze", [f"{name}_t", "front"], [f"{name}_t1"]),
            make_node("Concat", [f"{name}_b1", f"{name}_t1", f"{name}_heads", "rest"], [f"{name}_split"], axis=0),
            make_node("Concat", [f"{name}_b1", f"{name}_t1", f"{name}_inner"], [f"{name}_join"], axis=0),
        ]
        weights |= {f"{name}_heads": ints(heads), f"{name}_inner": ints(INNER)}
    else:
        weights |= {
            f"{name}_split": ints(BATCH, STEPS, heads, INNER // heads), f"{name}_join": ints(BATCH, STEPS, INNER),
        }  # fmt: skip
    for role, source, perm in (("q", f"{name}_q", [0, 2, 1, 3]), ("k", "k", [0, 2, 3, 1]), ("v", "v", [0, 2, 1, 3])):
        nodes += [
            make_node("Reshape", [source, f"{name}_split"], [f"{name}_{role}_rows"]),
            make_node("Transpose", [f"{name}_{role}_rows"], [f"{name}_{role}_heads"], perm=perm),
        ]
    nodes += [
        make_node("MatMul", [f"{name}_q_heads", f"{name}_k_heads"], [f"{name}_raw"]),
        make_node("Mul", [f"{name}_raw", f"{name}_scale"], [f"{name}_scores"]),
        make_node("Softmax", [f"{name}_scores"], [f"{name}_weights"], axis=-1),
        make_node("MatMul", [f"{name}_weights", f"{name}_v_heads"], [f"{name}_mixed"]),
        make_node("Transpose", [f"{name}_mixed"], [f"{name}_last"], perm=[0, 2, 1, 3]),
        make_node("Reshape", [f"{name}_last", f"{name}_join"], [f"{name}_joined"]),
        make_node("MatMul", [f"{name}_joined", f"o_{name}"], [f"{name}_out"]),
    ]
    weights[f"{name}_scale"] = np.asarray((INNER // heads) ** -0.5, np.float32)
    return nodes, weights


def both(*, computed: bool) -> onnx.ModelProto:
    """x -> keys and values of 24 dims, read as 4 heads of 6 and as 8 heads of 3; the two results are added."""
    few, few_weights = attention("few", FEW, computed=computed)
    many, many_weights = attention("many", MANY, computed=computed)
    nodes = [
        make_node("MatMul", ["x", "w_k"], ["k"]),
        make_node("MatMul", ["x", "w_v"], ["v"]),
        *few,
        *many,
        make_node("Add", ["few_out", "many_out"], ["out"]),
    ]
    weights = {
        "w_k": [WIDTH, INNER], "w_v": [WIDTH, INNER], "i0": np.asarray(0, np.int64), "i1": np.asarray(1, np.int64),
        "front": ints(0), "rest": ints(-1), **few_weights, **many_weights,
    }  # fmt: skip
    shape = ["batch", "steps", WIDTH] if computed else [BATCH, STEPS, WIDTH]
    return make_model(nodes, {"x": shape}, ["out"], weights)


SPELLINGS = pytest.mark.parametrize(
    ("model", "options"),
    [(both(computed=True), {"bind": {"batch": BATCH, "steps": STEPS}}), (both(computed=False), {})],
    ids=["torchscript", "dynamo"],
)


def at(**coordinates: list[int]) -> list[int]:
    """Flat indices of 24 = 4 x 2 x 3, with the given ones of each factor."""
    grid = np.arange(INNER).reshape(FEW, MANY // FEW, HALF)
    chosen = [
        coordinates.get(name, list(range(n))) for name, n in zip(("head", "side", "dim"), grid.shape, strict=True)
    ]
    return sorted(grid[np.ix_(*chosen)].reshape(-1).tolist())


@SPELLINGS
def test_what_goes_from_both(model: onnx.ModelProto, options: dict) -> None:
    """A head of the few with two of the many; the first or second half of all heads; a dim in every head."""
    coupling = assert_prunes_exactly(model, **options)
    keys, values = ("q_few:1", "q_many:1", "w_k:1"), ("w_v:1", "o_few:0", "o_many:0")

    assert units(coupling) == {
        "w_k:1": [dict.fromkeys((*keys, *values), at(head=[h])) for h in range(FEW)],
        "w_k:1#2": [dict.fromkeys(keys, at(dim=[d])) for d in range(HALF)],
        "w_k:1#3": [dict.fromkeys((*keys, *values), at(side=[s])) for s in range(2)],
        "w_v:1": [dict.fromkeys(values, at(dim=[d])) for d in range(HALF)],
    }
    assert all(g.exact for g in coupling.groups)


@SPELLINGS
def test_sizes_follow(model: onnx.ModelProto, options: dict) -> None:
    edited = pruned(model, {"w_k:1": [0, 2, 3], "w_k:1#3": [1]}, **options)
    shapes = {t.name: list(t.dims) for t in edited.graph.initializer}
    assert shapes["w_k"] == [WIDTH, 3 * HALF]
    again = analyse(edited, **options)
    assert again.shapes.shape["few_q_heads"] == (BATCH, 3, STEPS, HALF)
    assert again.shapes.shape["many_q_heads"] == (BATCH, 3, STEPS, HALF)


def test_each_head_of_the_few_loses_dims_of_its_own() -> None:
    """The dims of both ways: a head of the many is half a head of the few, and loses the same as the other half."""
    coupling = assert_changes_places(both(computed=False))
    by_head = [[at(head=[h], dim=[d]) for d in range(HALF)] for h in range(FEW)]
    assert members(coupling)["w_v:1"] == {"w_v:1": by_head, "o_few:0": by_head, "o_many:0": by_head}


def test_factors_that_do_not_nest_stay() -> None:
    """4 x 6 beside 6 x 4: no index goes from one without breaking the other."""
    nodes = [
        make_node("MatMul", ["x", "w"], ["flat"]),
        make_node("Reshape", ["flat", "four"], ["rows"]),
        make_node("MatMul", ["rows", "w_six"], ["a"]),
        make_node("Reshape", ["flat", "six"], ["columns"]),
        make_node("MatMul", ["columns", "w_four"], ["b"]),
        make_node("ReduceSum", ["a", "axis"], ["sum_a"], keepdims=0),
        make_node("ReduceSum", ["b", "axis"], ["sum_b"], keepdims=0),
        make_node("Add", ["sum_a", "sum_b"], ["out"]),
    ]
    weights = {
        "w": [3, 24], "four": ints(5, 4, 6), "six": ints(5, 6, 4), "w_six": [6, 2], "w_four": [4, 2], "axis": ints(1),
    }  # fmt: skip
    coupling = analyse(make_model(nodes, {"x": [5, 3]}, ["out"], weights))
    assert "w:1" not in {str(a) for g in coupling.groups for a in g.axes}
    assert "it splits an axis in a way that does not nest with another split of it" in {
        r.why for r in coupling.refusals if (r.tensor, r.axis) == ("w", 1)
    }


def test_the_target_shapes_are_written_anew() -> None:
    model = both(computed=False)
    edited = pruned(model, {"w_k:1": [1, 3]})
    targets = {n.name or n.output[0]: n for n in edited.graph.node if n.op_type == "Reshape"}
    tensors = {t.name: onnx.numpy_helper.to_array(t).tolist() for t in edited.graph.initializer}
    assert tensors[targets["few_q_rows"].input[1]] == [BATCH, STEPS, 2, SIZE]
    assert tensors[targets["many_q_rows"].input[1]] == [BATCH, STEPS, 4, HALF]
