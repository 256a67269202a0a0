"""Elementwise operators: axes go through as they are, broadcasting couples what is as long and nothing else."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, defs
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.ops.elementwise import BROADCASTING, UNARY
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly
from tests.support.sandwich import WIDTH, between_convs, between_matmuls, one_by_one

NEWEST = 26  # an opset that has all of the operators below but SwiGLU
TO_BOOL = {"Not", "And", "Or", "Xor"}
TO_INT = {"BitwiseNot", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitShift"}
TEXT = {"RegexFullMatch", "StringConcat"}
CONVS = one_by_one(WIDTH, "w1:0", "b1:0", "w2:1")


def around(op: str, x: str, *, second: str = "") -> list[onnx.NodeProto]:
    """`op` on x (and a second operand), cast to the type that it takes and back to float."""
    to = TensorProto.BOOL if op in TO_BOOL else TensorProto.UINT8 if op in TO_INT else TensorProto.FLOAT
    attrs: dict[str, object] = {"Cast": {"to": TensorProto.FLOAT}, "BitShift": {"direction": "LEFT"}}.get(op, {})
    inputs = [name for name in (x, second) if name]
    if op == "Where":
        inputs = ["condition", *inputs]
    nodes = [make_node("Cast", [name], [f"{name}_in"], to=to) for name in inputs if name != "condition"]
    if op == "Where":
        nodes.append(make_node("Greater", [x, second], ["condition_in"]))
    nodes.append(make_node(op, [f"{name}_in" for name in inputs], ["z"], **attrs))
    return [*nodes, make_node("Cast", ["z"], ["y"], to=TensorProto.FLOAT)]


@pytest.mark.parametrize("op", sorted(set(UNARY) - TEXT))
def test_one_operand_keeps_its_axes(op: str) -> None:
    coupling = analyse(between_convs(around(op, "h"), opset=NEWEST))
    assert units(coupling) == {"w1:0": CONVS}
    assert [g.exact for g in coupling.groups] == [True]


@pytest.mark.parametrize("op", sorted(set(BROADCASTING) - TEXT - {"SwiGLU"}))
def test_two_operands_meet(op: str) -> None:
    nodes = [make_node("Conv", ["x", "w3"], ["g"]), *around(op, "h", second="g")]
    coupling = analyse(between_convs(nodes, {"w3": [WIDTH, 3, 1, 1]}, opset=NEWEST))
    assert units(coupling) == {"w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w2:1", "w3:0")}
    assert [g.exact for g in coupling.groups] == [True]


def test_swiglu_meets() -> None:
    nodes = [make_node("MatMul", ["x", "w3"], ["g"]), make_node("SwiGLU", ["h", "g"], ["y"])]
    coupling = analyse(between_matmuls(nodes, {"w3": [3, WIDTH]}, opset=28))
    assert units(coupling) == {"w1:1": one_by_one(WIDTH, "w1:1", "b1:0", "w2:0", "w3:1")}


@pytest.mark.parametrize("op", [*UNARY, *BROADCASTING, "Clip", "CastLike", "BitCast", "Dropout"])
def test_the_lists_hold_operators_of_onnx(op: str) -> None:
    assert defs.has(op)


@pytest.mark.parametrize(
    "op", ["Relu", "Sigmoid", "Exp", "Cos", "HardSwish", "Gelu", "IsNaN", "Round", "Sign", "Softplus"]
)
def test_what_maps_zero_to_something_is_exact_too(op: str) -> None:
    nodes = [make_node(op, ["h"], ["z"]), make_node("Cast", ["z"], ["c"], to=1), make_node("Add", ["c", "h"], ["y"])]
    assert [g.exact for g in assert_prunes_exactly(between_convs(nodes, opset=20)).groups] == [True]


@pytest.mark.parametrize("op", ["Add", "Mul", "Sub", "Div", "Pow", "Max", "Min", "Mean", "Sum", "Greater", "PRelu"])
@pytest.mark.parametrize("shape", [[], [1], [WIDTH, 1, 1], [1, WIDTH, 1, 1], [WIDTH, 4, 5], [1, 1, 5]])
def test_a_stored_operand_broadcasts(op: str, shape: list[int]) -> None:
    nodes = [make_node("Softplus", ["h"], ["p"]), make_node(op, ["p", "s"], ["z"])]
    nodes += [make_node("Cast", ["z"], ["c"], to=1), make_node("Add", ["c", "h"], ["y"])]
    stored = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    coupling = assert_prunes_exactly(between_convs(nodes, {"s": stored}))
    axes = [f"s:{axis}" for axis, size in enumerate(shape) if size == WIDTH]
    assert units(coupling) == {"w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w2:1", *axes)}


def test_an_axis_of_length_one_is_not_linked() -> None:
    """A column [2, 6, 1] and a row [2, 1, 5] meet in a matrix: each keeps its own units."""
    nodes = [
        make_node("MatMul", ["a", "wa"], ["row"]),
        make_node("MatMul", ["wb", "b"], ["column"]),
        make_node("Add", ["row", "column"], ["s"]),
        make_node("MatMul", ["s", "w_right"], ["r"]),
        make_node("MatMul", ["w_left", "r"], ["out"]),
    ]
    weights = {"wa": [3, 5], "wb": [6, 4], "w_right": [5, 2], "w_left": [2, 6]}
    model = make_model(nodes, {"a": [2, 1, 3], "b": [2, 4, 1]}, ["out"], weights)
    coupling = assert_prunes_exactly(model)
    assert units(coupling) == {
        "wa:1": one_by_one(5, "wa:1", "w_right:0"),
        "wb:0": one_by_one(6, "wb:0", "w_left:1"),
    }


def test_where_takes_three() -> None:
    nodes = [make_node("Greater", ["h", "t"], ["c"]), make_node("Where", ["c", "h", "s"], ["y"])]
    coupling = assert_prunes_exactly(between_convs(nodes, {"t": [WIDTH, 1, 1], "s": [WIDTH, 1, 1]}))
    assert units(coupling) == {"w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w2:1", "t:0", "s:0")}


def test_a_residual_is_the_width() -> None:
    nodes = [
        make_node("Conv", ["h", "w3"], ["g"]),
        make_node("Add", ["h", "g"], ["y"]),
    ]
    coupling = assert_prunes_exactly(between_convs(nodes, {"w3": [WIDTH, WIDTH, 1, 1]}))
    assert units(coupling) == {"w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w2:1", "w3:0", "w3:1")}
    assert [g.kind for g in coupling.groups] == ["width"]


@pytest.mark.parametrize("opset", [6, 11, 17])
def test_clip(opset: int) -> None:
    node = (
        make_node("Clip", ["h"], ["y"], min=-1.0, max=1.0) if opset < 11 else make_node("Clip", ["h", "", "top"], ["y"])
    )
    model = between_convs([node], {} if opset < 11 else {"top": np.array(1, np.float32)}, opset=opset)
    assert units(analyse(model)) == {"w1:0": CONVS}


def test_a_type_is_lent_whatever_its_shape() -> None:
    node = make_node("CastLike", ["h", "like"], ["y"])
    coupling = assert_prunes_exactly(between_convs([node], {"like": [7]}))
    assert units(coupling) == {"w1:0": CONVS}


@pytest.mark.parametrize("opset", [6, 7, 12, 17])
def test_dropout_and_its_mask(opset: int) -> None:
    nodes = [
        make_node("Dropout", ["h"], ["d", "mask"], **({"is_test": 1} if opset == 6 else {})),
        make_node("Relu", ["d"], ["y"]),
    ]
    assert units(analyse(between_convs(nodes, opset=opset))) == {"w1:0": CONVS}


# -- before opset 7 --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "attrs", "axes"),
    [
        ([WIDTH], {"broadcast": 1, "axis": 1}, ["s:0"]),
        ([WIDTH, 4], {"broadcast": 1, "axis": 1}, ["s:0"]),
        ([WIDTH, 4, 5], {"broadcast": 1}, ["s:0"]),
        ([4, 5], {"broadcast": 1}, []),
        ([1], {"broadcast": 1}, []),
        ([2, WIDTH, 4, 5], {}, ["s:1"]),
    ],
)
def test_the_second_operand_is_laid_at_an_axis(shape: list[int], attrs: dict[str, int], axes: list[str]) -> None:
    model = between_convs([make_node("Mul", ["h", "s"], ["y"], **attrs)], {"s": shape}, opset=6)
    assert units(analyse(model)) == {"w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w2:1", *axes)}


def test_a_slope_per_channel_before_opset_7_freezes() -> None:
    refusals = analyse(between_convs([make_node("PRelu", ["h", "s"], ["y"])], {"s": [WIDTH]}, opset=6)).refusals
    assert {(r.tensor, r.axis): (r.why, r.help) for r in refusals}["s", 0] == (
        "which axis its slope belongs to is not defined before opset 7",
        "convert the model to opset 7",
    )


def test_one_slope_for_all_before_opset_7() -> None:
    model = between_convs([make_node("PRelu", ["h", "s"], ["y"])], {"s": [1]}, opset=6)
    assert units(analyse(model)) == {"w1:0": CONVS}
