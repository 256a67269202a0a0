"""Each head loses dims of its own, each key-value head queries of its own; and where that cannot be."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.coupling.coupling import Coupling
from onnxprune.plan import plan_for
from tests.blocks.test_rotary_attention import SIZE, cross, fused
from tests.support.balanced import assert_changes_places, members
from tests.support.models import make_model
from tests.support.oracle import distance, random_feeds, run


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


def flat(rows: int, columns: int) -> list[list[list[int]]]:
    """Row-major: block r has member c at r * columns + c."""
    return [[[r * columns + c] for c in range(columns)] for r in range(rows)]


@pytest.mark.parametrize("opset", [13, 23])
def test_dims_of_heads(opset: int) -> None:
    """Dims of q and k in each of three heads, and those of v, whatever spells the attention."""
    coupling = assert_changes_places(cross(opset))
    assert members(coupling) == {
        "w_q:1#2": {"w_q:1": flat(3, 2), "b_q:0": flat(3, 2), "w_k:1": flat(3, 2)},
        "w_v:1": {"w_v:1": flat(3, 2), "w_out:0": flat(3, 2)},
    }


def test_a_plan_lists_what_each_head_keeps() -> None:
    coupling = analyse(cross(13))
    made = plan_for(coupling, {"w_v:1": [0]}, blocks={"w_v:1": [[1], [0], [1]]})
    assert made.tensors == {"w_v": {1: (1, 2, 5)}, "w_out": {0: (1, 2, 5)}}
    assert made.rows == {}


def test_grouped_queries() -> None:
    """Two key-value heads: of each the values' dims, and which of its two query heads goes. Rotary pairs stay put."""
    coupling = assert_changes_places(fused())
    query_heads = [[[(2 * h + r) * SIZE + d for d in range(SIZE)] for r in range(2)] for h in range(2)]
    of_both = [[[(2 * h + r) * SIZE + d for r in range(2)] for d in range(SIZE)] for h in range(2)]
    assert list(members(coupling).values()) == [
        {"w_v:1": flat(2, SIZE), "w_out:0": of_both},  # both query heads that read a value head lose its dims
        {"w_q:1": query_heads, "w_out:0": query_heads},
    ]
    pairs = next(g.index for g in coupling.groups if any(a.tensor == "cos" for a in g.axes))
    assert "has no axis for the blocks" in coupling.balance.reasons[pairs]


def per_head_product() -> onnx.ModelProto:
    """x [5, 3] -> two heads of four dims -> Einsum with a matrix per head [2, 4, 3], summed over heads."""
    nodes = [
        make_node("MatMul", ["x", "w"], ["flat"]),
        make_node("Reshape", ["flat", "split"], ["heads"]),
        make_node("Relu", ["heads"], ["active"]),
        make_node("Einsum", ["active", "per_head"], ["out"], equation="nhd,hde->ne"),
    ]
    return make_model(nodes, {"x": [5, 3]}, ["out"], {"w": [3, 8], "per_head": [2, 4, 3], "split": ints(5, 2, 4)})


def test_a_matrix_per_head_is_cut_by_its_heads() -> None:
    """Heads could change places for each dim as well; the dims are more."""
    coupling = assert_changes_places(per_head_product())
    by_head = {"w:1": flat(2, 4), "per_head:1 by per_head:0": [[[0], [1], [2], [3]]]}
    assert list(members(coupling).values()) == [by_head]
    (dims,) = members(coupling)
    made = plan_for(coupling, {dims: [0, 1]}, blocks={dims: [[3, 1], [0, 2]]})
    assert made.tensors == {"w": {1: (1, 3, 4, 6)}}
    cut = made.rows["per_head"][1]
    assert (cut.by, cut.indices) == (0, ((1, 3), (0, 2)))


def heads_on_their_own_axis() -> onnx.ModelProto:
    """Attention whose weights are [6, H, D] and [H, D, 6]: nothing is flat."""
    nodes = [
        *(make_node("Einsum", ["x", f"w_{n}"], [n], equation="bsw,whd->bhsd") for n in "qkv"),
        make_node("Einsum", ["q", "k"], ["scores"], equation="bhsd,bhtd->bhst"),
        make_node("Softmax", ["scores"], ["weights"], axis=-1),
        make_node("Einsum", ["weights", "v"], ["mixed"], equation="bhst,bhtd->bhsd"),
        make_node("Einsum", ["mixed", "w_out"], ["out"], equation="bhsd,hdw->bsw"),
    ]
    weights = {f"w_{n}": [6, 3, 4] for n in "qkv"} | {"w_out": [3, 4, 6]}
    return make_model(nodes, {"x": [2, 5, 6]}, ["out"], weights)


def test_dims_of_heads_that_are_an_axis() -> None:
    coupling = assert_changes_places(heads_on_their_own_axis())
    dims = [[[d] for d in range(4)]]
    assert list(members(coupling).values()) == [
        {"w_q:2 by w_q:1": dims, "w_k:2 by w_k:1": dims},
        {"w_v:2 by w_v:1": dims, "w_out:1 by w_out:0": dims},
    ]


def test_dims_beside_others_in_one_projection() -> None:
    """q, k and v of each head side by side (LeViT, https://arxiv.org/abs/2104.01136): dims of q and k, and of v."""
    nodes = [
        make_node("MatMul", ["x", "w"], ["fused"]),
        make_node("Reshape", ["fused", "split"], ["heads"]),
        make_node("Transpose", ["heads"], ["first"], perm=[0, 2, 1, 3]),
        make_node("Split", ["first", "parts"], ["q", "k", "v"], axis=-1),
        make_node("Transpose", ["k"], ["k_t"], perm=[0, 1, 3, 2]),
        make_node("MatMul", ["q", "k_t"], ["scores"]),
        make_node("Softmax", ["scores"], ["weights"], axis=-1),
        make_node("MatMul", ["weights", "v"], ["mixed"]),
        make_node("Transpose", ["mixed"], ["last"], perm=[0, 2, 1, 3]),
        make_node("Reshape", ["last", "join"], ["joined"]),
        make_node("MatMul", ["joined", "w_out"], ["out"]),
    ]
    weights = {
        "w": [6, 3 * 8], "split": ints(2, 5, 3, 8), "parts": ints(2, 2, 4), "join": ints(2, 5, -1), "w_out": [12, 6],
    }  # fmt: skip
    coupling = assert_changes_places(make_model(nodes, {"x": [2, 5, 6]}, ["out"], weights))
    assert sorted(members(coupling).values(), key=len) == [
        {"w:1": [[[8 * h + d, 8 * h + 2 + d] for d in range(2)] for h in range(3)]},
        {"w:1": [[[8 * h + 4 + d] for d in range(4)] for h in range(3)], "w_out:0": flat(3, 4)},
    ]


def heads_meet_heads() -> onnx.ModelProto:
    """Attention among the heads of one token: scores [N, S, H, H], q, k and v stacked in one projection."""
    nodes = [
        make_node("MatMul", ["x", "w"], ["fused"]),
        make_node("Reshape", ["fused", "five"], ["split"]),
        make_node("Transpose", ["split"], ["stack"], perm=[2, 0, 1, 3, 4]),
        *(make_node("Gather", ["stack", f"i{k}"], [name], axis=0) for k, name in enumerate("qkv")),
        make_node("Transpose", ["k"], ["k_t"], perm=[0, 1, 3, 2]),
        make_node("MatMul", ["q", "k_t"], ["scores"]),
        make_node("Tanh", ["scores"], ["weights"]),
        make_node("MatMul", ["weights", "v"], ["mixed"]),
        make_node("Reshape", ["mixed", "flat"], ["joined"]),
        make_node("MatMul", ["joined", "w_out"], ["out"]),
    ]
    weights = {
        "w": [6, 36], "w_out": [12, 6], "five": ints(2, 5, 3, 3, 4), "flat": ints(2, 5, 12),
        **{f"i{k}": np.asarray(k, np.int64) for k in range(3)},
    }  # fmt: skip
    return make_model(nodes, {"x": [2, 5, 6]}, ["out"], weights)


def test_dims_stay_where_every_head_meets_every_other() -> None:
    """The dims of q and k are in heads in both, yet a product of q's head 0 and k's head 1 needs them in one order."""
    coupling = analyse(heads_meet_heads())
    assert sorted(g.size for g in coupling.groups) == [3, 4]
    assert coupling.balance.balanced == {}
    assert "k_t has no axis for the blocks" in " ".join(coupling.balance.reasons.values())


def between_heads(op: str, *inputs: str, **attrs: object) -> onnx.ModelProto:
    """x [5, 3] -> two heads of four dims -> `op` -> joined -> out."""
    nodes = [
        make_node("MatMul", ["x", "w"], ["flat"]),
        make_node("Reshape", ["flat", "split"], ["heads"]),
        make_node(op, ["heads", *inputs], ["changed"], **attrs),
        make_node("Reshape", ["changed", "join"], ["joined"]),
        make_node("MatMul", ["joined", "w_out"], ["out"]),
    ]
    weights = {
        "w": [3, 8], "split": ints(5, 2, 4), "join": ints(5, -1), "w_out": [4 if op == "ReduceSum" else 8, 2],
        "axes": ints(1), "per_dim": [4], "per_head": [2, 1],
    }  # fmt: skip
    return make_model(nodes, {"x": [5, 3]}, ["out"], weights)


def by_size(model: onnx.ModelProto) -> tuple[Coupling, int, int]:
    """The coupling, and the numbers of its groups of two (heads) and of four (dims)."""
    coupling = analyse(model)
    assert sorted(g.size for g in coupling.groups) == [2, 4]
    heads, dims = sorted(coupling.groups, key=lambda g: g.size)
    return coupling, heads.index, dims.index


@pytest.mark.parametrize(
    ("model", "why"),
    [
        pytest.param(between_heads("Mul", "per_dim"), "per_dim has no axis for the blocks", id="a scale per dim"),
        pytest.param(between_heads("ReduceSum", "axes", keepdims=0), "w_out has no axis for the blocks", id="a sum"),
        pytest.param(
            between_heads("LayerNormalization", "per_dim", axis=-1), "has no axis for the blocks", id="a norm"
        ),
        pytest.param(between_heads("Softmax", axis=1), "for one block depends on the others", id="heads compete"),
    ],
)
def test_what_heads_have_in_common_keeps_dims_in_place(model: onnx.ModelProto, why: str) -> None:
    coupling, _, dims = by_size(model)
    assert dims not in coupling.balance.balanced
    assert why in coupling.balance.reasons[dims]


@pytest.mark.parametrize(
    "model",
    [between_heads("Mul", "per_head"), between_heads("Softmax", axis=-1), between_heads("Relu")],
    ids=["a scale per head", "a statistic of each head", "nothing"],
)
def test_what_each_head_has_for_itself_lets_dims_go(model: onnx.ModelProto) -> None:
    assert_changes_places(model)
    coupling, heads, dims = by_size(model)
    assert members(coupling) == {coupling.groups[dims].name: {"w:1": flat(2, 4), "w_out:0": flat(2, 4)}}
    assert heads in coupling.balance.reasons


def test_heads_change_places_dim_by_dim_where_only_dims_have_a_scale() -> None:
    coupling = assert_changes_places(between_heads("Mul", "per_dim"))
    by_dim = [[[h * 4 + d] for h in range(2)] for d in range(4)]
    assert list(members(coupling).values()) == [{"w:1": by_dim, "w_out:0": by_dim}]


def test_dims_that_leave_the_model_stay() -> None:
    model = cross(13)
    model.graph.output.append(onnx.ValueInfoProto(name="q"))
    model.graph.output[-1].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    coupling = analyse(model, allow_io_change=["q"])
    assert "q is seen from outside" in coupling.balance.reasons.values()


def test_changing_places_moves_what_is_stored() -> None:
    """Not blind: the same dims in other places, of q alone, is another model."""
    model = cross(13)
    coupling = analyse(model)
    fed = random_feeds(coupling)
    dense = run(coupling.view.model, fed)
    for tensor in model.graph.initializer:
        if tensor.name == "w_q":
            array = onnx.numpy_helper.to_array(tensor)[:, [1, 0, 2, 3, 4, 5]]
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(array), "w_q"))
    assert distance(run(analyse(model).view.model, fed), dense) > 0.01
