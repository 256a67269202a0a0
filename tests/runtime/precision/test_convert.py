"""What is converted, what stays float32, and where the Casts are."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.helper import make_node

from onnxprune.errors import ModelError, SettingError
from onnxprune.graph.bindings import bind_inputs
from onnxprune.graph.model import Model
from onnxprune.graph.view import GraphView
from onnxprune.runtime.ort import make_session
from onnxprune.runtime.precision.convert import Converted, convert
from onnxprune.runtime.precision.kinds import BFLOAT16, FLOAT16, Kind
from onnxprune.runtime.precision.prepare import prepared, types_of
from onnxprune.runtime.precision.staying import overflowing, staying_in_float32

F = TensorProto.FLOAT


def model_of(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], opset: int = 17) -> Model:
    info = [helper.make_tensor_value_info(name, F, [2, 4]) for name in ("x", "y")]
    graph = helper.make_graph(
        nodes, "g", info[:1], info[1:], [numpy_helper.from_array(a, name) for name, a in weights.items()]
    )
    return Model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8))


def converted(
    model: Model,
    kind: Kind = FLOAT16,
    *,
    keep_io: bool = True,
    ranges: dict[str, float] | None = None,
    **how: list[str],
) -> tuple[Converted, dict[str, str]]:
    source, _ = prepared(model, kind)
    view = GraphView(source)
    shapes = types_of(view, bind_inputs(view))
    staying = staying_in_float32(view, shapes, kind, overflowing(view, shapes, kind, ranges or {}, 1.0), **how)
    found = convert(source, shapes, kind, staying, keep_io=keep_io)
    onnx.checker.check_model(found.model.proto, full_check=True)
    return found, {view.nodes[index].title: why for index, why in staying.items()}


def casts(graph: onnx.GraphProto) -> list[tuple[str, str, int]]:
    return [(n.input[0], n.output[0], n.attribute[0].i) for n in graph.node if n.op_type == "Cast"]


def run(model: Model, x: np.ndarray) -> np.ndarray:
    return make_session(model.to_proto().SerializeToString()).run(None, {"x": x})[0]


X = np.asarray([[1, 2, 3, 4], [-1, 0.5, 7, 8]], np.float32)


def test_names_and_what_is_not_float_stay() -> None:
    model = model_of(
        [make_node("MatMul", ["x", "w"], ["h"], name="first"), make_node("Relu", ["h"], ["y"])],
        {"w": np.eye(4, dtype=np.float32)},
    )
    graph = converted(model, keep_io=False)[0].model.proto.graph
    assert [(n.op_type, n.name) for n in graph.node] == [("MatMul", "first"), ("Relu", "")]
    assert not graph.value_info
    assert [i.type.tensor_type.elem_type for i in (*graph.input, *graph.output)] == [FLOAT16.number] * 2
    assert numpy_helper.to_array(graph.initializer[0]).dtype == np.float16


def test_inputs_and_outputs_are_kept_on_request() -> None:
    model = model_of([make_node("Relu", ["x"], ["y"], name="r")], {})
    found, _ = converted(model)
    graph = found.model.proto.graph
    assert [i.type.tensor_type.elem_type for i in (*graph.input, *graph.output)] == [F, F]
    assert [n.op_type for n in graph.node] == ["Cast", "Relu", "Cast"]
    np.testing.assert_array_equal(run(found.model, X), np.maximum(X, 0))


def test_between_two_nodes_that_stay_no_value_goes_through_16_bits() -> None:
    """Each gets Casts around it, and the pair between them would overflow: 4 * 40000 does not fit."""
    model = model_of(
        [
            make_node("Mul", ["x", "k"], ["a"], name="up"), make_node("Mul", ["a", "x"], ["b"], name="again"),
            make_node("Mul", ["b", "i"], ["c"], name="down"), make_node("Relu", ["c"], ["y"], name="r"),
        ],
        {"k": np.asarray(40000, np.float32), "i": np.asarray(1 / 40000, np.float32)},
    )  # fmt: skip
    found, why = converted(model, ranges={"a": 160000.0, "b": 640000.0})
    assert set(why) == {"up", "again", "down"}
    assert why["again"] == "b reaches 6.4e+05, and float16 ends at 65504"
    read = {source for source, _, _ in casts(found.model.proto.graph)}
    assert not read & {"a", "b"}
    np.testing.assert_allclose(run(found.model, X), np.maximum(X * X, 0), rtol=1e-3)
    assert all(numpy_helper.to_array(t).dtype == np.float32 for t in found.model.proto.graph.initializer)


def test_a_value_that_several_float32_nodes_read_is_cast_once() -> None:
    model = model_of(
        [
            make_node("Relu", ["x"], ["h"], name="r"), make_node("Exp", ["h"], ["a"], name="e1"),
            make_node("Sqrt", ["h"], ["b"], name="e2"), make_node("Add", ["a", "b"], ["y"], name="s"),
        ],
        {},
    )  # fmt: skip
    found, why = converted(model, keep_io=False, ignore=["e*"])
    assert why == {"e1": "in --ignore", "e2": "in --ignore"}
    assert [cast for cast in casts(found.model.proto.graph) if cast[0] == "h"] == [("h", "h_cast_to_fp32", F)]


def test_a_mask_is_cut_and_a_large_weight_is_not() -> None:
    model = model_of(
        [
            make_node("Mul", ["x", "mask"], ["m"], name="mask"), make_node("Mul", ["m", "w"], ["n"], name="big"),
            make_node("Relu", ["n"], ["y"], name="r"),
        ],
        {"mask": np.asarray(-3.4e38, np.float32), "w": np.full(4, 1e6, np.float32)},
    )  # fmt: skip
    assert prepared(model, FLOAT16)[1] == ("mask",)
    found, why = converted(model)
    stored = {t.name: numpy_helper.to_array(t) for t in found.model.proto.graph.initializer}
    assert stored["mask"] == np.float16(-32752)
    assert stored["w"].dtype == np.float32
    assert why == {"big": "w reaches 1e+06, and float16 ends at 65504"}


def test_what_computes_sizes_stays() -> None:
    model = model_of(
        [
            make_node("Shape", ["x"], ["s"]), make_node("Cast", ["s"], ["f"], to=F, name="to_float"),
            make_node("Mul", ["f", "one"], ["g"], name="count"), make_node("Cast", ["g"], ["t"], to=7, name="back"),
            make_node("Reshape", ["x", "t"], ["y"], name="reshape"),
        ],
        {"one": np.asarray(1, np.float32)},
    )  # fmt: skip
    _, why = converted(model)
    assert {"to_float", "count", "back"} <= {name for name, reason in why.items() if reason == "computes sizes"}


def test_bfloat16_is_rounded_from_the_original_to_nearest() -> None:
    values = np.asarray([1.00390625, 1.0117, 3e37, 1e-30], np.float32)  # 1 + 2^-8, a tie: to the even 1
    model = model_of([make_node("Mul", ["x", "w"], ["y"], name="m")], {"w": values})
    found, _ = converted(model, BFLOAT16)
    tensor = found.model.proto.graph.initializer[0]
    assert tensor.data_type == BFLOAT16.number
    np.testing.assert_array_equal(numpy_helper.to_array(tensor), values.astype(ml_dtypes.bfloat16))
    rounding = run(found.rounding, X)
    expected = (X.astype(ml_dtypes.bfloat16) * values.astype(ml_dtypes.bfloat16)).astype(np.float32)
    np.testing.assert_array_equal(rounding, expected)


def test_rounding_is_that_of_the_type_and_overflow_shows() -> None:
    model = model_of([make_node("Mul", ["x", "w"], ["y"], name="m")], {"w": np.asarray(1 + 2**-10, np.float32)})
    found, _ = converted(model)
    x = np.full((2, 4), 1 + 2**-10, np.float32)
    np.testing.assert_array_equal(run(found.rounding, x), np.float32(np.float16(1 + 2**-9)))
    assert np.isinf(run(found.rounding, np.full((2, 4), 65504, np.float32))).all()


@pytest.mark.parametrize("kind", [FLOAT16, BFLOAT16])
def test_bodies_are_converted_too(kind: Kind) -> None:
    def body(name: str, op: str) -> onnx.GraphProto:
        nodes = [make_node(op, ["x"], [f"{name}_h"]), make_node("Sin", [f"{name}_h"], [f"{name}_y"], name=f"{name}_s")]
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(f"{name}_y", F, [2, 4])])

    model = model_of(
        [
            make_node("ReduceSum", ["x"], ["sum"], keepdims=0), make_node("Cast", ["sum"], ["c"], to=TensorProto.BOOL),
            make_node("If", ["c"], ["z"], then_branch=body("t", "Relu"), else_branch=body("e", "Neg")),
            make_node("Abs", ["z"], ["y"]),
        ],
        {},
    )  # fmt: skip
    found, why = converted(model, kind)
    assert bool(why) is (kind is BFLOAT16)  # Sin has no bfloat16 at opset 17
    np.testing.assert_allclose(run(found.rounding, X), np.abs(np.sin(np.maximum(X, 0))), atol=2e-2)


def test_an_initializer_that_is_an_input_too_keeps_its_entry() -> None:
    model = model_of([make_node("Mul", ["x", "w"], ["y"], name="m")], {"w": np.ones(4, np.float32)})
    model.proto.graph.input.append(helper.make_tensor_value_info("w", F, [4]))
    graph = converted(model)[0].model.proto.graph
    types = {i.name: i.type.tensor_type.elem_type for i in graph.input}
    assert types == {"x": F, "w": FLOAT16.number}


def test_bad_input() -> None:
    model = model_of([make_node("Relu", ["x"], ["y"], name="r")], {}, opset=11)
    with pytest.raises(ModelError, match="opset 11, and bfloat16 came with 13"):
        prepared(model, BFLOAT16)
    with pytest.raises(SettingError, match="--ignore-op Conv: the model has none"):
        converted(model, operators=["Conv"])
    with pytest.raises(SettingError, match="--ignore z: no node matches"):
        converted(model, ignore=["z"])
    model.proto.functions.append(onnx.FunctionProto(name="F", domain="d"))
    with pytest.raises(ModelError, match="F is a function of the model's own"):
        prepared(model, FLOAT16)
