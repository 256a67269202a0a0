"""com.microsoft's products of quantised matrices and images: exact to the bit, scales by column sliced."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.helper import make_node

from onnxprune.analyse import analyse
from tests.support.models import units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import array, pruned, shapes
from tests.support.quantised import int8, int32, ms_model, ms_node, scalar, scales, uint8
from tests.support.sandwich import one_by_one

BIT_EXACT = 0.0


def gemm_model(
    *, flip: bool = False, by_column: bool = True, floats: bool = False, grid: bool = False
) -> onnx.ModelProto:
    """x -> uint8 -> QGemm [4, 6] -> QGemm [6, 3] -> out, the second with float output if `floats`."""
    weights = {"s": scalar(0.03), "z": scalar(117, np.uint8)}
    nodes = [make_node("QuantizeLinear", ["x", "s", "z"], ["q0"])]
    for layer, (rows, columns) in enumerate([(4, 6), (6, 3)]):
        weights[f"w{layer}"] = int8(columns, rows, seed=layer) if flip else int8(rows, columns, seed=layer)
        weights[f"s{layer}"] = scales(columns) if by_column else scalar(0.01)
        weights[f"z{layer}"] = np.zeros(columns, np.int8) if by_column else scalar(5, np.int8)
        weights[f"c{layer}"] = int32(5, columns) if grid else int32(columns)
        inputs = [f"q{layer}", "s", "z", f"w{layer}", f"s{layer}", f"z{layer}", f"c{layer}"]
        last = layer == 1
        out = "out" if floats and last else f"q{layer + 1}"
        nodes.append(ms_node("QGemm", inputs + ([] if floats and last else ["s", "z"]), [out], transB=int(flip)))
    if not floats:
        nodes.append(make_node("DequantizeLinear", ["q2", "s", "z"], ["out"]))
    return ms_model(nodes, {"x": [5, 4]}, weights, rank=2)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("floats", [False, True])
def test_qgemm(flip: bool, by_column: bool, floats: bool) -> None:
    coupling = assert_prunes_exactly(gemm_model(flip=flip, by_column=by_column, floats=floats), tolerance=BIT_EXACT)
    ((_, members),) = units(coupling).items()
    axes = ["w0:0" if flip else "w0:1", *(["s0:0", "z0:0"] if by_column else []), "c0:0", "w1:1" if flip else "w1:0"]
    assert members == one_by_one(6, *axes)
    assert coupling.cost().macs == 5 * 4 * 6 + 5 * 6 * 3


def test_a_bias_for_each_row() -> None:
    ((_, members),) = units(analyse(gemm_model(grid=True))).items()
    assert members == one_by_one(6, "w0:1", "s0:0", "z0:0", "c0:1", "w1:0")


def test_scales_are_sliced_with_their_columns() -> None:
    model = gemm_model()
    (group,) = analyse(model).groups
    edited = pruned(model, {group.name: [1, 4, 5]})
    for name in ("s0", "z0", "c0"):
        np.testing.assert_array_equal(array(edited, name), array(model, name)[[1, 4, 5]], strict=True)
    np.testing.assert_array_equal(array(edited, "w0"), array(model, "w0")[:, [1, 4, 5]], strict=True)
    np.testing.assert_array_equal(array(edited, "w1"), array(model, "w1")[[1, 4, 5]], strict=True)
    np.testing.assert_array_equal(array(edited, "s1"), array(model, "s1"), strict=True)


def to_float_model(by_column: bool, zeros: bool, bias: bool) -> onnx.ModelProto:
    """x -> DynamicQuantizeLinear -> MatMulIntegerToFloat, twice."""
    weights, nodes = {}, []
    for layer, (name, rows, columns) in enumerate([("x", 4, 6), ("h", 6, 3)]):
        weights[f"w{layer}"] = int8(rows, columns, seed=layer)
        weights[f"s{layer}"] = scales(columns) if by_column else scalar(0.01)
        if zeros:
            weights[f"z{layer}"] = int8(columns, seed=9) // 9 if by_column else scalar(3, np.int8)
        if bias:
            weights[f"b{layer}"] = np.linspace(-1, 1, columns, dtype=np.float32)
        optional = [f"z{layer}" if zeros else "", f"b{layer}" if bias else ""]
        nodes += [
            make_node("DynamicQuantizeLinear", [name], [f"{name}_q", f"{name}_s", f"{name}_z"]),
            ms_node(
                "MatMulIntegerToFloat",
                [f"{name}_q", f"w{layer}", f"{name}_s", f"s{layer}", f"{name}_z", *optional],
                [["h", "out"][layer]],
            ),
        ]
    return ms_model(nodes, {"x": [5, 4]}, weights, rank=2)


@pytest.mark.parametrize(("by_column", "zeros", "bias"), [(0, 0, 0), (1, 0, 1), (0, 1, 1), (1, 1, 0)])
def test_matmul_integer_to_float(by_column: int, zeros: int, bias: int) -> None:
    model = to_float_model(bool(by_column), bool(zeros), bool(bias))
    coupling = assert_prunes_exactly(model, tolerance=BIT_EXACT)
    (group,) = coupling.groups
    assert group.exact
    vectors = [*(["s0:0"] * by_column), *(["z0:0"] * (zeros * by_column)), *(["b0:0"] * bias)]
    assert units(coupling) == {group.name: one_by_one(6, "w0:1", *vectors, "w1:0")}


@pytest.mark.parametrize("by_column", [False, True])
def test_dynamic_quantize_matmul(by_column: bool) -> None:
    weights, nodes = {}, []
    for layer, (name, out, rows, columns) in enumerate([("x", "h", 4, 6), ("h", "out", 6, 3)]):
        weights |= {f"w{layer}": int8(rows, columns, seed=layer), f"b{layer}": [columns]}
        weights[f"s{layer}"] = scales(columns) if by_column else scalar(0.01)
        weights[f"z{layer}"] = int8(columns, seed=9) // 9 if by_column else scalar(3, np.int8)
        nodes.append(ms_node("DynamicQuantizeMatMul", [name, *(f"{i}{layer}" for i in "wszb")], [out]))
    coupling = assert_prunes_exactly(ms_model(nodes, {"x": [2, 5, 4]}, weights, rank=3), tolerance=BIT_EXACT)
    (group,) = coupling.groups
    assert group.exact
    vectors = ["s0:0", "z0:0"] if by_column else []
    assert units(coupling) == {group.name: one_by_one(6, "w0:1", *vectors, "b0:0", "w1:0")}


def test_matmul_of_sixteen_bits() -> None:
    nodes = [
        ms_node("MatMulInteger16", ["x", "w"], ["i"]),
        make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        make_node("MatMul", ["f", "leave"], ["out"]),
    ]
    weights = {"w": int8(4, 6).astype(np.int16), "leave": [6, 3]}
    model = ms_model(nodes, {"x": [5, 4]}, weights, rank=2, input_types={"x": TensorProto.INT16})
    assert units(analyse(model)) == {"w:1": one_by_one(6, "w:1", "leave:0")}


def convolutions(groups: int = 1, channels_last: int = 1) -> onnx.ModelProto:
    """Three QLinearConv of com.microsoft on images [1, 6, 6, 3], the second grouped."""
    kernels = {"k0": (8, 3, 3, 3), "k1": (8, 8 // groups, 3, 3), "k2": (5, 8, 1, 1)}
    weights = {"s": scalar(0.03), "z": scalar(131, np.uint8)}
    nodes = [make_node("QuantizeLinear", ["x", "s", "z"], ["q0"])]
    for layer, (name, shape) in enumerate(kernels.items()):
        weights |= {name: int8(*shape, seed=layer), f"s{layer}": scales(shape[0]), f"b{layer}": int32(shape[0])}
        weights[f"z{layer}"] = np.zeros(shape[0], np.int8)
        inputs = [f"q{layer}", "s", "z", name, f"s{layer}", f"z{layer}", "s", "z", f"b{layer}"]
        attrs = {"group": groups} if layer == 1 and groups > 1 else {}
        nodes.append(ms_node("QLinearConv", inputs, [f"q{layer + 1}"], channels_last=channels_last, **attrs))
    nodes.append(make_node("DequantizeLinear", ["q3", "s", "z"], ["out"]))
    return ms_model(nodes, {"x": [1, 6, 6, 3] if channels_last else [1, 3, 6, 6]}, weights, rank=4)


@pytest.mark.parametrize("channels_last", [0, 1])
@pytest.mark.parametrize("groups", [1, 2, 8])
def test_qlinear_conv(groups: int, channels_last: int) -> None:
    coupling = assert_prunes_exactly(convolutions(groups, channels_last), tolerance=BIT_EXACT)
    assert all(g.exact and g.kind == "channels" for g in coupling.groups)


def test_the_group_count_follows() -> None:
    model = convolutions(groups=8)
    (group,) = analyse(model).groups
    edited = pruned(model, {group.name: [0, 3, 7]})
    (node,) = [n for n in edited.graph.node if n.output[0] == "q2"]
    assert {a.name: helper.get_attribute_value(a) for a in node.attribute} == {"channels_last": 1, "group": 3}
    assert shapes(edited)["k1"] == (3, 1, 3, 3)
    assert shapes(edited)["s1"] == shapes(edited)["z1"] == shapes(edited)["b1"] == (3,)


def test_zero_points_by_row_freeze() -> None:
    nodes = [ms_node("MatMulIntegerToFloat", ["x", "w", "one", "one", "rows"], ["out"])]
    weights = {"w": int8(4, 6), "rows": uint8(5), "one": scalar(1.0)}
    model = ms_model(nodes, {"x": [5, 4]}, weights, rank=2, input_types={"x": TensorProto.UINT8})
    coupling = analyse(model)
    assert coupling.groups == ()
    assert any("zero points by row" in r.why for r in coupling.refusals)
