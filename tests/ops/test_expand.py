"""Repetition: Expand and Tile. What is repeated goes with its copies, a repeat with a copy of everything."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node, make_tensor

from onnxprune.analyse import analyse
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import array, pruned

Weights = dict[str, np.ndarray | list[int]]
KEYS, REPEATS, SIZE, WIDTH, STEPS = 2, 3, 2, 5, 4


def grouped_queries(*, computed: bool = False, opset: int = 17) -> onnx.ModelProto:
    """x [batch, 4, 5]; 6 heads of queries over 2 heads of keys and values (dims 2 and 3), which Expand repeats.

    With `computed`, the sizes come from Shape, as the older exporter writes them; else they are written out.
    """
    weights: Weights = {
        "wq": [WIDTH, KEYS * REPEATS * SIZE], "wk": [WIDTH, KEYS * SIZE], "wv": [WIDTH, KEYS * 3],
        "wo": [KEYS * REPEATS * 3, 5],
        "split_q": np.array([0, 0, KEYS * REPEATS, -1]),
        "split_k": np.array([0, 0, KEYS, -1]), "split_v": np.array([0, 0, KEYS, -1]),
        "joined": np.array([0, 0, -1]), "two": np.array([2]),
        "repeats": np.array([REPEATS]), "zero": np.array([0]), "one": np.array([1]), "all": np.array([4]),
    }  # fmt: skip
    nodes = [make_node("MatMul", ["x", f"w{n}"], [n]) for n in "qkv"]
    for name in "qkv":
        nodes += [
            make_node("Reshape", [name, f"split_{name}"], [f"{name}4"]),
            make_node("Transpose", [f"{name}4"], [f"{name}h"], perm=[0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]),
        ]
    for name, dims in (("k", [SIZE, STEPS]), ("v", [STEPS, 3])):
        nodes.append(make_node("Unsqueeze", [f"{name}h", "two"], [f"{name}5"]))
        if computed:
            nodes += [
                make_node("Shape", [f"{name}h"], [f"{name}_shape"]),
                make_node("Slice", [f"{name}_shape", "zero", "two"], [f"{name}_front"]),
                make_node("Slice", [f"{name}_shape", "two", "all"], [f"{name}_back"]),
                make_node("Concat", [f"{name}_front", "repeats", f"{name}_back"], [f"{name}_target"], axis=0),
                make_node("Slice", [f"{name}_shape", "one", "two"], [f"{name}_heads"]),
                make_node("Mul", [f"{name}_heads", "repeats"], [f"{name}_all"]),
                make_node("Slice", [f"{name}_shape", "zero", "one"], [f"{name}_batch"]),
                make_node("Concat", [f"{name}_batch", f"{name}_all", f"{name}_back"], [f"{name}_flat"], axis=0),
            ]
        else:
            weights[f"{name}_target"] = np.array([1, 1, REPEATS, 1, 1])
            weights[f"{name}_flat"] = np.array([0, KEYS * REPEATS, *dims])
        nodes += [
            make_node("Expand", [f"{name}5", f"{name}_target"], [f"{name}e"]),
            make_node("Reshape", [f"{name}e", f"{name}_flat"], [f"{name}r"]),
        ]
    nodes += [
        make_node("MatMul", ["qh", "kr"], ["scores"]),
        make_node("Softmax", ["scores"], ["p"], axis=-1),
        make_node("MatMul", ["p", "vr"], ["o"]),
        make_node("Transpose", ["o"], ["ot"], perm=[0, 2, 1, 3]),
        make_node("Reshape", ["ot", "joined"], ["oj"]),
        make_node("MatMul", ["oj", "wo"], ["out"]),
    ]
    batch = "batch" if computed else 2
    return make_model(nodes, {"x": [batch, STEPS, WIDTH]}, ["out"], weights, opset=opset)


def dims(heads: list[int], size: int) -> list[int]:
    return [head * size + i for head in heads for i in range(size)]


@pytest.mark.parametrize("computed", [False, True], ids=["sizes written", "sizes computed"])
def test_grouped_queries(computed: bool) -> None:
    """A head of keys takes its 3 heads of queries along; a repeat takes one of every 3."""
    options = {"bind": {"batch": 2}} if computed else {}
    found = units(assert_prunes_exactly(grouped_queries(computed=computed), **options))

    def unit(keys: list[int], queries: list[int]) -> dict[str, list[int]]:
        shared = {"wk:1": dims(keys, SIZE), "wv:1": dims(keys, 3)} if keys else {}
        return {"wq:1": dims(queries, SIZE), **shared, "wo:0": dims(queries, 3)}

    expected = [
        [unit([k], [3 * k, 3 * k + 1, 3 * k + 2]) for k in range(KEYS)],
        [unit([], [r, 3 + r]) for r in range(REPEATS)],
        [{"wq:1": [d + 2 * h for h in range(6)], "wk:1": [d, 2 + d]} for d in range(SIZE)],
        [{"wv:1": [d, 3 + d], "wo:0": [d + 3 * h for h in range(6)]} for d in range(3)],
    ]
    assert sorted(found.values(), key=str) == sorted(expected, key=str)


def test_repeats_and_heads_follow_in_the_literals() -> None:
    model = grouped_queries()
    found = units(analyse(model))
    heads = next(
        name
        for name, members in found.items()
        if len(members) == KEYS and "wv:1" in members[0] and "wq:1" in members[0]
    )
    repeats = next(name for name, members in found.items() if len(members) == REPEATS and "wq:1" in members[0])
    after = pruned(model, {heads: [1], repeats: [0, 2]})
    # the shape input says 1 where the operand's own length holds
    assert array(after, "k_target").tolist() == [1, 1, 2, 1, 1]
    assert array(after, "k_flat").tolist() == [0, 2, SIZE, STEPS]
    assert array(after, "v_flat").tolist() == [0, 2, STEPS, 3]
    assert array(after, "split_q").tolist() == [0, 0, 2, -1]
    assert array(after, "split_k").tolist() == [0, 0, 1, -1]


def class_token(target: list[int] | None) -> onnx.ModelProto:
    """x [batch, 3, 5] -> 4 channels; a token [1, 1, 4] is expanded to the batch and put in front; a projection."""
    nodes = [
        make_node("MatMul", ["x", "w1"], ["a"]),
        make_node("Expand", ["token", "target"], ["tokens"]),
        make_node("Concat", ["tokens", "a"], ["b"], axis=1),
        make_node("MatMul", ["b", "w2"], ["out"]),
    ]
    weights: Weights = {"w1": [5, 4], "w2": [4, 3], "token": [1, 1, 4]}
    if target is None:
        nodes[1:1] = [
            make_node("Shape", ["x"], ["batch_size"], start=0, end=1),
            make_node("Concat", ["batch_size", "rest"], ["wished"], axis=0),
            make_node("Equal", ["wished", "minus"], ["kept"]),
            make_node("Where", ["kept", "ones", "wished"], ["target"]),
        ]
        weights |= {"rest": np.array([-1, -1]), "minus": np.full(3, -1), "ones": np.ones(3, np.int64)}
    else:
        weights["target"] = np.array(target)
    return make_model(nodes, {"x": ["batch" if target is None else 2, 3, 5]}, ["out"], weights)


@pytest.mark.parametrize(
    ("target", "after"),
    [([2, 1, 4], [2, 1, 2]), ([2, 1, 1], [2, 1, 1]), (None, None)],
    ids=["width written", "width implied", "batch from Shape"],
)
def test_a_class_token_keeps_the_width_prunable(target: list[int] | None, after: list[int] | None) -> None:
    model, options = class_token(target), {"bind": {"batch": 2}} if target is None else {}
    coupling = assert_prunes_exactly(model, **options)
    assert units(coupling) == {"w1:1": [{"w1:1": [i], "token:2": [i], "w2:0": [i]} for i in range(4)]}
    smaller = pruned(model, {"w1:1": [0, 3]}, **options)
    if after is None:
        assert [n.op_type for n in smaller.graph.node] == [n.op_type for n in model.graph.node]
    else:
        assert array(smaller, "target").tolist() == after


def repeated(op: str, x: list[int], given: list[int], y: list[int], opset: int = 17) -> onnx.ModelProto:
    """A stored tensor [.., n] is repeated to 6 columns, times the input's 6 columns from w1, into w2."""
    name = "shape" if op == "Expand" else "repeats"
    nodes = [
        make_node("MatMul", ["x", "w1"], ["a"]),
        make_node(op, ["t", name], ["b"]),
        make_node("Mul", ["a", "b"], ["c"]),
        make_node("MatMul", ["c", "w2"], ["out"]),
    ]
    weights: Weights = {"w1": [5, y[-1]], "w2": [y[-1], 3], "t": x, name: np.array(given)}
    return make_model(nodes, {"x": [2, 5]}, ["out"], weights, opset=opset)


@pytest.mark.parametrize("opset", [8, 13])
@pytest.mark.parametrize(
    ("x", "shape", "after"),
    [
        ([2, 1], [2, 6], [2, 4]),
        ([1], [2, 6], [2, 4]),
        ([], [6], [4]),
        ([2, 1], [6], [4]),  # the shape input has fewer axes than what is expanded
        ([1, 1], [1, 6], [1, 4]),
    ],
)
def test_an_expanded_axis_is_free(x: list[int], shape: list[int], after: list[int], opset: int) -> None:
    model = repeated("Expand", x, shape, [2, 6], opset)
    assert units(assert_prunes_exactly(model)) == {"w1:1": [{"w1:1": [i], "w2:0": [i]} for i in range(6)]}
    assert array(pruned(model, {"w1:1": [0, 1, 2, 5]}), "shape").tolist() == after


def test_an_axis_that_is_as_long_is_the_same() -> None:
    model = repeated("Expand", [6], [2, 1], [2, 6])
    assert units(assert_prunes_exactly(model)) == {"w1:1": [{"w1:1": [i], "w2:0": [i], "t:0": [i]} for i in range(6)]}
    assert array(pruned(model, {"w1:1": [0, 5]}), "shape").tolist() == [2, 1]


@pytest.mark.parametrize("opset", [7, 13])
def test_a_tiled_axis_is_repeats_by_indices(opset: int) -> None:
    """[0 1] tiled three times is [0 1 0 1 0 1]: an index goes with its three copies, a repeat with both indices."""
    model = repeated("Tile", [1, 2], [1, 3], [2, 6], opset)
    coupling = assert_prunes_exactly(model)
    assert units(coupling) == {
        "w1:1#2": [{"t:1": [i], "w1:1": [i, 2 + i, 4 + i], "w2:0": [i, 2 + i, 4 + i]} for i in range(2)],
        "w1:1": [{"w1:1": [2 * r, 2 * r + 1], "w2:0": [2 * r, 2 * r + 1]} for r in range(3)],
    }
    after = pruned(model, {"w1:1#2": [1], "w1:1": [0, 2]})
    assert array(after, "repeats").tolist() == [1, 2]
    assert array(pruned(model, {"w1:1#2": [0]}), "repeats").tolist() == [1, 3]


def test_a_tiled_axis_of_length_1_is_free() -> None:
    model = repeated("Tile", [1, 1], [2, 6], [2, 6])
    assert units(assert_prunes_exactly(model)) == {"w1:1": [{"w1:1": [i], "w2:0": [i]} for i in range(6)]}
    assert array(pruned(model, {"w1:1": [2, 3]}), "repeats").tolist() == [2, 2]


def test_an_axis_that_is_not_tiled_is_the_same() -> None:
    model = repeated("Tile", [1, 6], [2, 1], [2, 6])
    assert units(assert_prunes_exactly(model)) == {"w1:1": [{"w1:1": [i], "w2:0": [i], "t:1": [i]} for i in range(6)]}


def test_tile_of_opset_1_repeats_one_axis() -> None:
    nodes = [
        make_node("MatMul", ["x", "w1"], ["a"]),
        make_node("Tile", ["a", "tiles", "axis"], ["b"]),
        make_node("MatMul", ["b", "w2"], ["out"]),
    ]
    weights: Weights = {"w1": [5, 2], "w2": [6, 3], "tiles": np.array([3]), "axis": np.array([1])}
    model = make_model(nodes, {"x": [2, 5]}, ["out"], weights, opset=1)
    measured = {"b": (2, 6), "out": (2, 3)}
    assert units(analyse(model, measured=measured)) == {
        "w1:1": [{"w1:1": [i], "w2:0": [i, 2 + i, 4 + i]} for i in range(2)],
        "w2:0": [{"w2:0": [2 * r, 2 * r + 1]} for r in range(3)],
    }
    after = pruned(model, {"w1:1": [0], "w2:0": [2]}, measured=measured)
    assert array(after, "tiles").tolist() == [1]


@pytest.mark.parametrize("op", ["Expand", "Tile"])
def test_a_length_that_varies_stays(op: str) -> None:
    """One row repeated for every row of a dynamic input, then summed over: the rows stay, the columns may go."""
    nodes = [
        make_node("Shape", ["x"], ["rows"], start=0, end=1),
        make_node("Concat", ["rows", "one"], ["sizes"], axis=0),
        make_node(op, ["t", "sizes"], ["b"]),
        make_node("Transpose", ["b"], ["c"]),
        make_node("MatMul", ["c", "x"], ["d"]),
        make_node("MatMul", ["w2", "d"], ["out"]),
    ]
    weights: Weights = {"t": [1, 4], "w2": [3, 4], "one": np.array([1])}
    model = make_model(nodes, {"x": ["rows", 5]}, ["out"], weights)
    coupling = assert_prunes_exactly(model, bind={"rows": 6})
    assert units(coupling) == {"w2:1": [{"t:1": [i], "w2:1": [i]} for i in range(4)]}
    why = "how often it is repeated depends on a dynamic dimension"
    assert why in {reason.why for reason in coupling.atoms.reasons if reason.op == op and reason.tensor == "b"}


@pytest.mark.parametrize("width", [8, 17])
def test_a_length_taken_from_a_shape_makes_no_size_of_what_is_repeated(width: int) -> None:
    """A scalar expanded to the channels of another tensor, as exported, is data: short or long."""
    nodes = [
        make_node("MatMul", ["x", "w1"], ["a"]),
        make_node("Shape", ["a"], ["channels"], start=1, end=2),
        make_node("Expand", ["scale", "channels"], ["scales"]),
        make_node("Mul", ["a", "scales"], ["b"]),
        make_node("ConstantOfShape", ["channels"], ["halves"], value=make_tensor("v", 1, [1], [0.5])),
        make_node("Add", ["b", "halves"], ["c"]),
        make_node("MatMul", ["c", "w2"], ["out"]),
    ]
    weights: Weights = {"w1": [5, width], "w2": [width, 3], "scale": np.array(1.5, np.float32)}
    coupling = assert_prunes_exactly(make_model(nodes, {"x": [2, 5]}, ["out"], weights))
    assert units(coupling) == {"w1:1": [{"w1:1": [i], "w2:0": [i]} for i in range(width)]}
