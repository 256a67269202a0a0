"""com.microsoft's operators on 8-bit tensors: axes as those of the float operators, scales stay, exact to the bit."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.helper import make_node

from onnxprune.analyse import analyse
from tests.support.models import units
from tests.support.oracle import assert_prunes_exactly
from tests.support.quantised import FIRST, between_qconvs, int8, ms_model, ms_node, scalar, scales, uint8
from tests.support.sandwich import one_by_one

CHANNELS = one_by_one(6, *FIRST, "w2:1")


def qlinear(op: str, *extra: str, **attrs: object) -> list[onnx.NodeProto]:
    """A QLinear operator of one input, from `h` to `y`."""
    return [ms_node(op, ["h", "s", "z", "s", "z", *extra], ["y"], **attrs)]


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("QLinearSigmoid", {}),
        ("QLinearLeakyRelu", {"alpha": 0.1}),
        ("QLinearAveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ("QLinearGlobalAveragePool", {}),
        ("QLinearReduceMean", {"axes": [2, 3]}),
        ("QLinearReduceMean", {"axes": [-1], "keepdims": 1}),
        ("QLinearSoftmax", {"axis": 2, "opset": 13}),
        ("QLinearSoftmax", {"axis": -1, "opset": 11}),
    ],
)
def test_channels_go_one_by_one(op: str, attrs: dict) -> None:
    model = between_qconvs(qlinear(op, **attrs))
    coupling = analyse(model) if op == "QLinearReduceMean" else assert_prunes_exactly(model, tolerance=0.0)
    (group,) = coupling.groups
    assert group.exact
    assert units(coupling) == {group.name: CHANNELS}


@pytest.mark.parametrize(
    ("op", "attrs", "why"),
    [
        ("QLinearSoftmax", {"axis": 1, "opset": 13}, "Softmax runs over it"),
        ("QLinearSoftmax", {"axis": 1, "opset": 12}, "Softmax runs over it"),
        ("QLinearReduceMean", {"axes": [1]}, "a mean is taken over it"),
        ("QLinearReduceMean", {}, "a mean is taken over it"),
    ],
)
def test_a_statistic_over_channels_mixes(op: str, attrs: dict, why: str) -> None:
    model = between_qconvs(qlinear(op, **attrs), {} if op == "QLinearSoftmax" else {"w2": int8(4, 1, 1, 1)})
    (group,) = analyse(model).groups
    assert (group.size, group.exact) == (6, False)
    assert group.mixes == (why,)


def binary(op: str, other: str) -> list[onnx.NodeProto]:
    return [ms_node(op, ["h", "s", "z", other, "so", "zo", "s", "z"], ["y"])]


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_a_constant_goes_with_its_channel(op: str) -> None:
    weights = {"c": uint8(6, 1, 1), "so": scalar(0.02), "zo": scalar(99, np.uint8)}
    coupling = assert_prunes_exactly(between_qconvs(binary(op, "c"), weights), tolerance=0.0)
    assert units(coupling) == {"w1:0": one_by_one(6, *FIRST, "c:0", "w2:1")}


def test_a_sum_of_layers_is_a_width() -> None:
    nodes = [make_node("QLinearConv", ["q", "s", "z", "w3", "s3", "z3", "s", "z"], ["h3"])]
    nodes += binary("QLinearAdd", "h3")
    weights = {"w3": int8(6, 3, 1, 1, seed=4), "s3": scales(6), "z3": np.zeros(6, np.int8), "so": scalar(0.03),
               "zo": scalar(131, np.uint8)}  # fmt: skip
    coupling = assert_prunes_exactly(between_qconvs(nodes, weights), tolerance=0.0)
    (group,) = coupling.groups
    assert (group.kind, group.exact) == ("width", True)
    assert units(coupling) == {group.name: one_by_one(6, *FIRST, "w3:0", "s3:0", "z3:0", "w2:1")}


def test_where() -> None:
    nodes = [ms_node("QLinearWhere", ["c", "h", "s", "z", "v", "so", "zo", "s", "z"], ["y"])]
    weights = {"c": np.arange(6).reshape(6, 1, 1) % 2 == 0, "v": uint8(6, 1, 1), "so": scalar(0.02),
               "zo": scalar(99, np.uint8)}  # fmt: skip
    coupling = assert_prunes_exactly(between_qconvs(nodes, weights), tolerance=0.0)
    assert units(coupling) == {"w1:0": one_by_one(6, *FIRST, "c:0", "v:0", "w2:1")}


def test_concat_lays_channels_end_to_end() -> None:
    nodes = [
        make_node("QLinearConv", ["q", "s", "z", "w3", "so", "zi", "s", "z"], ["h3"]),
        ms_node("QLinearConcat", ["s", "z", "h", "s", "z", "h3", "s", "z"], ["y"], axis=1),
    ]
    weights = {"w3": int8(5, 3, 1, 1, seed=4), "so": scalar(0.02), "zi": scalar(0, np.int8)}
    coupling = assert_prunes_exactly(between_qconvs(nodes, weights, reads=11), tolerance=0.0)
    first = [{**unit, "w2:1": [i]} for i, unit in enumerate(one_by_one(6, *FIRST))]
    assert units(coupling) == {"w1:0": first, "w3:0": [{"w3:0": [i], "w2:1": [6 + i]} for i in range(5)]}


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("QLinearAveragePool", {"kernel_shape": [2, 2], "strides": [2, 2], "channels_last": 1}),
        ("QLinearGlobalAveragePool", {"channels_last": 1}),
    ],
)
def test_channels_last(op: str, attrs: dict) -> None:
    nodes = [
        make_node("Transpose", ["h"], ["last"], perm=[0, 2, 3, 1]),
        ms_node(op, ["last", "s", "z", "s", "z"], ["pooled"], **attrs),
        make_node("Transpose", ["pooled"], ["y"], perm=[0, 3, 1, 2]),
    ]
    coupling = assert_prunes_exactly(between_qconvs(nodes), tolerance=0.0)
    (group,) = coupling.groups
    assert group.exact
    assert units(coupling) == {"w1:0": CHANNELS}


def test_max_pool_of_channels_last() -> None:
    nodes = [
        make_node("Transpose", ["h"], ["last"], perm=[0, 2, 3, 1]),
        ms_node("NhwcMaxPool", ["last"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        make_node("Transpose", ["pooled"], ["y"], perm=[0, 3, 1, 2]),
    ]
    coupling = assert_prunes_exactly(between_qconvs(nodes), tolerance=0.0)
    assert units(coupling) == {"w1:0": CHANNELS}


def test_scales_of_sixteen_bits() -> None:
    """com.microsoft's own QuantizeLinear and DequantizeLinear: what ai.onnx's had no types for."""
    nodes = [
        ms_node("DequantizeLinear", ["w", "ws", "wz"], ["w_dq"], axis=1),
        make_node("MatMul", ["x", "w_dq"], ["h"]),
        ms_node("QuantizeLinear", ["h", "s", "z"], ["q"]),
        ms_node("DequantizeLinear", ["q", "s", "z"], ["h_dq"]),
        make_node("MatMul", ["h_dq", "leave"], ["out"]),
    ]
    weights = {
        "w": np.random.default_rng(1).integers(-9999, 9999, (4, 6)).astype(np.int16),
        "ws": scales(6) / 99,
        "wz": np.zeros(6, np.int16),
        "s": scalar(0.001),
        "z": scalar(30000, np.uint16),
        "leave": [6, 3],
    }
    coupling = assert_prunes_exactly(ms_model(nodes, {"x": [2, 4]}, weights, rank=2))
    (group,) = coupling.groups
    assert group.parameters == 4 + 1 + 1 + 3
    assert units(coupling) == {group.name: one_by_one(6, "w:1", "ws:0", "wz:0", "leave:0")}


def test_a_product_of_integers_broadcasts() -> None:
    nodes = [
        ms_node("MulInteger", ["x", "z", "c", "z"], ["p"]),
        make_node("Cast", ["p"], ["f"], to=TensorProto.FLOAT),
        make_node("MatMul", ["f", "leave"], ["out"]),
    ]
    weights = {"c": uint8(6), "z": scalar(3, np.uint8), "leave": [6, 3]}
    model = ms_model(nodes, {"x": [2, 6]}, weights, rank=2, input_types={"x": TensorProto.UINT8})
    coupling = analyse(model, allow_io_change=["x"])
    assert units(coupling) == {"leave:0": one_by_one(6, "c:0", "leave:0")}


def test_a_scale_by_channel_of_activations_is_declined() -> None:
    nodes = [ms_node("QLinearSigmoid", ["h", "many", "z", "s", "z"], ["y"])]
    coupling = analyse(between_qconvs(nodes, {"many": scales(6)}))
    assert coupling.groups == ()
    assert any(r.why == "many of shape (6,) is not one number" for r in coupling.refusals)
