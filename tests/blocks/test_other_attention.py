"""Attention of other kinds: talking heads (CaiT), cross-covariance (XCiT), channels in groups (DaViT), class tokens."""

from __future__ import annotations

import numpy as np
import onnx
from onnx.helper import make_node

from tests.support.balanced import assert_changes_places, members
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly

BATCH, STEPS, WIDTH, HEADS, SIZE = 2, 5, 6, 3, 4
INNER = HEADS * SIZE
GRID = np.arange(INNER).reshape(HEADS, SIZE)
ROWS, COLUMNS = GRID.tolist(), GRID.T.tolist()


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


def projected(*, q: list[int], k: list[int], v: list[int]) -> list[onnx.NodeProto]:
    """q, k and v of x [2, 5, 6], split into heads [2, 5, 3, 4] and transposed."""
    return [
        node
        for name, perm in (("q", q), ("k", k), ("v", v))
        for node in (
            make_node("MatMul", ["x", f"w_{name}"], [f"{name}_flat"]),
            make_node("Reshape", [f"{name}_flat", "split"], [f"{name}_rows"]),
            make_node("Transpose", [f"{name}_rows"], [name], perm=perm),
        )
    ]


def model(nodes: list[onnx.NodeProto], weights: dict | None = None) -> onnx.ModelProto:
    common = {
        **{f"w_{name}": [WIDTH, INNER] for name in "qkv"}, "w_out": [INNER, WIDTH], "last": ints(-1),
        "split": ints(BATCH, STEPS, HEADS, SIZE), "join": ints(BATCH, STEPS, INNER),
    }  # fmt: skip
    joined = [make_node("Reshape", ["rows", "join"], ["joined"]), make_node("MatMul", ["joined", "w_out"], ["out"])]
    return make_model([*nodes, *joined], {"x": [BATCH, STEPS, WIDTH]}, ["out"], {**common, **(weights or {})}, opset=18)


def talking_heads() -> onnx.ModelProto:
    """Scores and weights of all heads are mixed by [3, 3] before and behind the softmax (arXiv:2003.02436)."""
    nodes = [
        *projected(q=[0, 2, 1, 3], k=[0, 2, 3, 1], v=[0, 2, 1, 3]),
        make_node("MatMul", ["q", "k"], ["scores"]),
        make_node("Transpose", ["scores"], ["scores_last"], perm=[0, 2, 3, 1]),
        make_node("MatMul", ["scores_last", "before"], ["talked"]),
        make_node("Add", ["talked", "b_before"], ["talked_biased"]),
        make_node("Transpose", ["talked_biased"], ["talked_first"], perm=[0, 3, 1, 2]),
        make_node("Softmax", ["talked_first"], ["weights"], axis=-1),
        make_node("Transpose", ["weights"], ["weights_last"], perm=[0, 2, 3, 1]),
        make_node("MatMul", ["weights_last", "behind"], ["heard"]),
        make_node("Transpose", ["heard"], ["heard_first"], perm=[0, 3, 1, 2]),
        make_node("MatMul", ["heard_first", "v"], ["mixed"]),
        make_node("Transpose", ["mixed"], ["rows"], perm=[0, 2, 1, 3]),
    ]
    return model(nodes, {"before": [HEADS, HEADS], "b_before": [HEADS], "behind": [HEADS, HEADS]})


def test_talking_heads_are_three_sets_of_heads() -> None:
    """Heads of scores, heads that the softmax sees, heads of values: no longer one another's."""
    coupling = assert_prunes_exactly(talking_heads())
    found = units(coupling)
    assert list(found.values()) == [
        [{"w_q:1": ROWS[h], "w_k:1": ROWS[h], "before:0": [h]} for h in range(HEADS)],
        [{"w_q:1": COLUMNS[d], "w_k:1": COLUMNS[d]} for d in range(SIZE)],
        [{"w_v:1": ROWS[h], "w_out:0": ROWS[h], "behind:1": [h]} for h in range(HEADS)],
        [{"w_v:1": COLUMNS[d], "w_out:0": COLUMNS[d]} for d in range(SIZE)],
        [{"before:1": [h], "b_before:0": [h], "behind:0": [h]} for h in range(HEADS)],
    ]
    assert all(g.exact for g in coupling.groups)


def test_dims_of_talking_heads_change_places() -> None:
    coupling = assert_changes_places(talking_heads())
    by_head = [[[int(i)] for i in row] for row in GRID]
    assert list(members(coupling).values()) == [
        {"w_q:1": by_head, "w_k:1": by_head},
        {"w_v:1": by_head, "w_out:0": by_head},
    ]


def cross_covariance() -> onnx.ModelProto:
    """XCiT (arXiv:2106.09681): attention among dims, q and k of length 1 over the tokens, a temperature per head."""
    nodes = [
        *projected(q=[0, 2, 3, 1], k=[0, 2, 3, 1], v=[0, 2, 3, 1]),
        *(
            node
            for name in "qk"
            for node in (
                make_node("ReduceL2", [name, "last"], [f"{name}_length"], keepdims=1),
                make_node("Div", [name, f"{name}_length"], [f"{name}_unit"]),
            )
        ),
        make_node("Transpose", ["k_unit"], ["k_t"], perm=[0, 1, 3, 2]),
        make_node("MatMul", ["q_unit", "k_t"], ["scores"]),
        make_node("Mul", ["scores", "temperature"], ["scaled"]),
        make_node("Softmax", ["scaled"], ["weights"], axis=-1),
        make_node("MatMul", ["weights", "v"], ["mixed"]),
        make_node("Transpose", ["mixed"], ["rows"], perm=[0, 3, 1, 2]),
    ]
    return model(nodes, {"temperature": [HEADS, 1, 1]})


def test_cross_covariance() -> None:
    """q's dims are the result's; k's are those that the softmax runs over, and v's with them."""
    coupling = assert_prunes_exactly(cross_covariance())
    heads = ("w_q:1", "w_k:1", "w_v:1", "w_out:0")
    assert list(units(coupling).values()) == [
        [{**dict.fromkeys(heads, ROWS[h]), "temperature:0": [h]} for h in range(HEADS)],
        [{"w_q:1": COLUMNS[d], "w_out:0": COLUMNS[d]} for d in range(SIZE)],
        [{"w_k:1": COLUMNS[d], "w_v:1": COLUMNS[d]} for d in range(SIZE)],
    ]
    assert [g.exact for g in coupling.groups] == [True, True, False]
    assert coupling.groups[2].mixes == ("Softmax runs over it",)


def test_dims_of_cross_covariance_change_places() -> None:
    """A softmax over dims takes them in any order."""
    found = members(assert_changes_places(cross_covariance()))
    assert [set(axes) for axes in found.values()] == [{"w_q:1", "w_out:0"}, {"w_k:1", "w_v:1"}]


def channel_groups() -> onnx.ModelProto:
    """DaViT (arXiv:2204.03645): attention among the channels of each group, q transposed against k."""
    nodes = [
        *projected(q=[0, 2, 3, 1], k=[0, 2, 1, 3], v=[0, 2, 3, 1]),
        make_node("MatMul", ["q", "k"], ["scores"]),
        make_node("Softmax", ["scores"], ["weights"], axis=-1),
        make_node("MatMul", ["weights", "v"], ["mixed"]),
        make_node("Transpose", ["mixed"], ["rows"], perm=[0, 3, 1, 2]),
    ]
    return model(nodes)


def test_channel_groups() -> None:
    coupling = assert_prunes_exactly(channel_groups())
    assert list(units(coupling).values()) == [
        [dict.fromkeys(("w_q:1", "w_k:1", "w_v:1", "w_out:0"), ROWS[h]) for h in range(HEADS)],
        [dict.fromkeys(("w_q:1", "w_out:0"), COLUMNS[d]) for d in range(SIZE)],
        [dict.fromkeys(("w_k:1", "w_v:1"), COLUMNS[d]) for d in range(SIZE)],
    ]


def relative_positions() -> onnx.ModelProto:
    """A stored bias per head and pair of tokens, [1, 3, 5, 5], and a table of distances by head, [3, 9], looked up."""
    distance = np.asarray([[i - j + STEPS - 1 for j in range(STEPS)] for i in range(STEPS)], np.int64)
    nodes = [
        *projected(q=[0, 2, 1, 3], k=[0, 2, 3, 1], v=[0, 2, 1, 3]),
        make_node("MatMul", ["q", "k"], ["raw"]),
        make_node("Gather", ["table", "distance"], ["by_distance"], axis=1),
        make_node("Add", ["raw", "bias"], ["biased"]),
        make_node("Add", ["biased", "by_distance"], ["scores"]),
        make_node("Softmax", ["scores"], ["weights"], axis=-1),
        make_node("MatMul", ["weights", "v"], ["mixed"]),
        make_node("Transpose", ["mixed"], ["rows"], perm=[0, 2, 1, 3]),
    ]
    weights = {"bias": [1, HEADS, STEPS, STEPS], "table": [HEADS, 2 * STEPS - 1], "distance": distance}
    return model(nodes, weights)


def test_relative_positions_go_by_heads() -> None:
    coupling = assert_prunes_exactly(relative_positions())
    heads = units(coupling)[next(g.name for g in coupling.groups if g.size == HEADS)]
    assert [(unit["bias:1"], unit["table:0"]) for unit in heads] == [([h], [h]) for h in range(HEADS)]
    frozen = {(r.tensor, r.axis) for r in coupling.refusals}
    assert {("bias", 2), ("bias", 3), ("table", 1)} <= frozen
    assert len(assert_changes_places(relative_positions()).balance.balanced) == 2  # the dims of q and k, and of v
