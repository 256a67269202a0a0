"""Shapes of ONNX Runtime's own float operators are those that ONNX Runtime computes."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from onnxprune.graph.bindings import bind_inputs
from onnxprune.graph.fused_shapes import operand_axes
from onnxprune.graph.io import load
from onnxprune.graph.shapes import Shapes, infer_shapes
from onnxprune.graph.view import GraphView
from tests.support.contrib_cases import CASES, Case, int32, scalar

F, I = TensorProto.FLOAT, TensorProto.INT32  # noqa: E741


def shapes_of(case: Case) -> Shapes:
    view = GraphView(load(case.model()))
    return infer_shapes(view, bind_inputs(view))


def stated(case: Case) -> list[tuple[tuple[int, ...], int]]:
    """What is stated of every output."""
    known = shapes_of(case)
    return [(known.shape[f"y{k}"], known.dtype[f"y{k}"]) for k in range(case.outputs)]


@pytest.mark.parametrize("case", [pytest.param(c, id=f"{c.op}-{i}") for i, c in enumerate(CASES) if c.runs])
def test_shape_and_type_are_what_onnx_runtime_computes(case: Case) -> None:
    model = case.model()
    for output, (_, dtype) in zip(model.graph.output, stated(case), strict=True):
        output.type.tensor_type.elem_type = dtype
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    computed = session.run(None, case.feeds())
    assert stated(case) == [(x.shape, helper.np_dtype_to_tensor_dtype(x.dtype)) for x in computed]


def test_shapes_of_what_the_cpu_build_does_not_run() -> None:
    """As docs/ContribOperators.md has them."""
    literal = {
        "BiasAdd": [((2, 3, 6), F)],
        "BiasSplitGelu": [((2, 3, 3), F)],
        "BiasSoftmax": [((2, 3, 6), F)],
        "BiasDropout": [((2, 3, 6), F), ((2, 3, 6), TensorProto.BOOL)],
        "GroupNorm": [((2, 4, 5, 6), F)],
        "SkipGroupNorm": [((2, 4, 5, 6), F)] * 2,
        "PackedAttention": [((5, 6), F)],
        "RelativePositionBias": [((1, 2, 3, 3), F)],
        "GemmFastGelu": [((2, 3, 4), F)],
        "NhwcConv": [((2, 4, 3, 6), F)],
        "NhwcFusedConv": [((2, 4, 3, 6), F)],
    }
    found = {case.op: stated(case) for case in CASES if not case.runs and case.op != "MultiHeadAttention"}
    assert found == literal


def test_packed_queries_keys_and_values() -> None:
    packed = [stated(case) for case in CASES if case.op == "MultiHeadAttention" and not case.runs]
    assert packed == [[((2, 3, 8), F)], [((2, 3, 6), F)]]


def test_a_cache_that_is_as_long_as_data_says_stays_open() -> None:
    case = next(c for c in CASES if c.op == "GroupQueryAttention")
    model = case.model()
    total = next(t for t in model.graph.initializer if t.name == "total")
    model.graph.initializer.remove(total)
    model.graph.input.append(helper.make_tensor_value_info("total", TensorProto.INT32, []))
    view = GraphView(load(model))
    known = infer_shapes(view, bind_inputs(view))
    assert known.shape["y0"] == (2, 3, 32)
    assert "y1" not in known.shape
    assert "y2" not in known.shape


def test_a_buffer_that_is_longer_than_what_it_holds_keeps_its_length() -> None:
    case = next(c for c in CASES if c.op == "GroupQueryAttention" and c.inputs["past_k"] is not None)
    roomy = {**case.inputs, "past_k": (1, 1, 20, 16), "past_v": (1, 1, 20, 16), "lengths": int32(5), "total": scalar(6)}
    assert stated(Case(case.op, roomy, 3, case.attrs))[1] == ((1, 1, 20, 16), F)


@pytest.mark.parametrize(
    ("op", "inputs", "attrs"),
    [
        ("FusedMatMul", {"a": (4, 3), "b": (4, 5)}, {}),
        ("FusedConv", {"x": (1, 3, 4, 4), "w": (2, 3, 1)}, {}),
        ("ExpandDims", {"x": (4, 3), "axis": np.zeros(2, np.int32)}, {}),
        ("Attention", {"x": (1, 2, 3)}, {"num_heads": 2}),
        ("NoSuchOperator", {"x": (1, 2)}, {}),
    ],
)
def test_what_an_invalid_or_unknown_node_gives_stays_open(op: str, inputs: dict, attrs: dict) -> None:
    assert "y0" not in shapes_of(Case(op, inputs, attrs=attrs)).shape


@pytest.mark.parametrize(
    ("rank", "trans", "batch", "axes"),
    [(1, 1, 1, [0]), (2, 1, 0, [1, 0]), (3, 0, 1, [1, 0, 2]), (3, 1, 1, [1, 2, 0]), (4, 1, 1, [1, 2, 3, 0])],
)
def test_axes_of_a_transposed_operand(rank: int, trans: int, batch: int, axes: list[int]) -> None:
    assert operand_axes(rank, trans, batch) == axes


def test_an_operator_of_a_domain_that_is_imported_under_another_name_is_not_taken_for_it() -> None:
    model = onnx.ModelProto.FromString(Case("Gelu", {"x": (2, 3)}).model().SerializeToString())
    model.graph.node[0].domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    view = GraphView(load(model))
    assert "y0" not in infer_shapes(view, bind_inputs(view)).shape
