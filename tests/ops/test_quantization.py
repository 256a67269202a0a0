"""Quantised operators: weights behind DequantizeLinear, scales that follow their axis, and integer arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.check import mask_classes
from onnxprune.edit import edit
from onnxprune.graph.model import Model
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly, distance, random_feeds
from tests.support.pruned import array, attributes, pruned, shapes
from tests.support.quantised import int8, scalar, scales, uint8

# -- QuantizeLinear and DequantizeLinear -----------------------------------------------------------------------


def qdq_convolutions(opset: int = 13) -> onnx.ModelProto:
    """Two QDQ convolutions: int8 kernels by output channel, int32 biases, activations quantised per tensor."""
    weights: dict[str, np.ndarray | Sequence[int]] = {
        "act_scale": scalar(0.05), "act_zero": scalar(3, np.int8),
        "k1": int8(6, 3, 3, 3), "k1_scale": scales(6), "k1_zero": np.zeros(6, np.int8),
        "b1": np.random.default_rng(1).integers(-2000, 2000, 6).astype(np.int32), "b1_scale": scales(6) * 0.05,
        "b1_zero": np.zeros(6, np.int32),
        "k2": int8(4, 6, 3, 3, seed=2), "k2_scale": scales(4), "k2_zero": np.zeros(4, np.int8),
    }  # fmt: skip
    nodes = []

    def through(name: str) -> str:
        nodes.append(make_node("QuantizeLinear", [name, "act_scale", "act_zero"], [f"{name}_q"]))
        nodes.append(make_node("DequantizeLinear", [f"{name}_q", "act_scale", "act_zero"], [f"{name}_dq"]))
        return f"{name}_dq"

    def stored(name: str) -> str:
        inputs = [name, f"{name}_scale", f"{name}_zero"]
        nodes.append(make_node("DequantizeLinear", inputs, [f"{name}_dq"], axis=0))
        return f"{name}_dq"

    nodes.append(make_node("Conv", [through("x"), stored("k1"), stored("b1")], ["c1"], pads=[1, 1, 1, 1]))
    nodes.append(make_node("Relu", ["c1"], ["r1"]))
    nodes.append(make_node("Conv", [through("r1"), stored("k2")], ["out"], pads=[1, 1, 1, 1]))
    return make_model(nodes, {"x": [1, 3, 8, 8]}, ["out"], weights, opset=opset)


@pytest.mark.parametrize("opset", [13, 19, 21, 23])
def test_weights_behind_dequantize_linear_can_be_pruned(opset: int) -> None:
    coupling = assert_prunes_exactly(qdq_convolutions(opset))
    (group,) = coupling.groups
    assert (group.size, group.exact, group.parameters) == (6, True, 3 * 9 + 4 * 9 + 5)
    assert units(coupling)[group.name] == [
        {
            "k1:0": [i], "k1_scale:0": [i], "k1_zero:0": [i], "b1:0": [i], "b1_scale:0": [i], "b1_zero:0": [i],
            "k2:1": [i],
        }
        for i in range(6)
    ]  # fmt: skip


def test_what_is_stored_keeps_its_type() -> None:
    model = qdq_convolutions()
    edited = pruned(model, {analyse(model).groups[0].name: [1, 4]})
    for name in ("k1", "b1", "k1_scale", "k1_zero"):
        np.testing.assert_array_equal(array(edited, name), array(model, name)[[1, 4]], strict=True)
    np.testing.assert_array_equal(array(edited, "k2"), array(model, "k2")[:, [1, 4]], strict=True)
    np.testing.assert_array_equal(array(edited, "k2_scale"), array(model, "k2_scale"), strict=True)


def test_opset_ten_has_no_axis() -> None:
    nodes = [
        make_node("DequantizeLinear", ["w", "s", "z"], ["w_dq"]),
        make_node("MatMul", ["x", "w_dq"], ["h"]),
        make_node("QuantizeLinear", ["h", "s", "z"], ["q"]),
        make_node("DequantizeLinear", ["q", "s", "z"], ["h_dq"]),
        make_node("MatMul", ["h_dq", "leave"], ["out"]),
    ]
    weights = {"w": int8(4, 6), "s": scalar(0.03), "z": scalar(2, np.int8), "leave": [6, 3]}
    model = make_model(nodes, {"x": [2, 4]}, ["out"], weights, opset=10)
    assert units(assert_prunes_exactly(model)) == {"w:1": [{"w:1": [i], "leave:0": [i]} for i in range(6)]}


def test_a_scale_of_one_element_is_not_an_axis() -> None:
    nodes = [
        make_node("DequantizeLinear", ["w", "s"], ["w_dq"], axis=1),
        make_node("MatMul", ["x", "w_dq"], ["h"]),
        make_node("MatMul", ["h", "leave"], ["out"]),
    ]
    weights = {"w": int8(4, 6), "s": np.array([0.03], np.float32), "leave": [6, 3]}
    model = make_model(nodes, {"x": [2, 4]}, ["out"], weights)
    assert units(analyse(model)) == {"w:1": [{"w:1": [i], "leave:0": [i]} for i in range(6)]}


def test_a_product_with_quantised_weights_is_not_taken_for_attention() -> None:
    nodes = [
        make_node("DequantizeLinear", ["w", "s"], ["w_dq"]),
        make_node("MatMul", ["x", "w_dq"], ["h"]),
        make_node("Relu", ["h"], ["r"]),
        make_node("MatMul", ["r", "leave"], ["out"]),
    ]
    model = make_model(nodes, {"x": [2, 5, 4]}, ["out"], {"w": int8(4, 6), "s": scalar(0.03), "leave": [6, 3]})
    assert [(g.name, g.kind) for g in analyse(model).groups] == [("w:1", "ffn")]


def blocked(block: int = 4, rows: int = 8, axis: int = 0, dtype: type = np.int8) -> onnx.ModelProto:
    """x -> MatMul -> MatMul with a [rows, 6] weight that has a scale for each block along `axis` -> MatMul."""
    shape = (rows, 6)
    count = tuple(-(-n // block) if a == axis else n for a, n in enumerate(shape))
    stored = np.random.default_rng(3).integers(-7, 7, shape)
    nodes = [
        make_node("MatMul", ["x", "enter"], ["h"]),
        make_node("DequantizeLinear", ["w", "s", "z"], ["w_dq"], axis=axis, block_size=block),
        make_node("MatMul", ["h", "w_dq"], ["y"]),
        make_node("MatMul", ["y", "leave"], ["out"]),
    ]
    weights = {"enter": [3, rows], "s": scales(*count), "z": np.ones(count, dtype), "leave": [6, 2],
               "w": stored.astype(dtype)}  # fmt: skip
    return make_model(nodes, {"x": [2, 3]}, ["out"], weights, opset=21)


@pytest.mark.parametrize("dtype", [np.int8, ml_dtypes.int4])
def test_a_block_goes_as_a_whole(dtype: type) -> None:
    coupling = assert_prunes_exactly(blocked(dtype=dtype))
    assert units(coupling) == {
        "enter:1": [
            {"s:0": [b], "z:0": [b], "w:0": list(range(4 * b, 4 * b + 4)), "enter:1": list(range(4 * b, 4 * b + 4))}
            for b in range(2)
        ],
        "w:1": [{"w:1": [i], "s:1": [i], "z:1": [i], "leave:0": [i]} for i in range(6)],
    }


def test_the_block_size_stays() -> None:
    model = blocked()
    edited = pruned(model, {analyse(model).groups[0].name: [1]})
    assert attributes(edited, "DequantizeLinear") == {"axis": 0, "block_size": 4}
    assert {n: s for n, s in shapes(edited).items() if n in ("w", "s", "enter")} == {
        "w": (4, 6), "s": (1, 6), "enter": (3, 4),
    }  # fmt: skip


def test_a_block_that_is_not_full_stays_the_last() -> None:
    coupling = assert_prunes_exactly(blocked(block=4, rows=10))
    assert units(coupling)["enter:1"] == [
        {"s:0": [b], "z:0": [b], "w:0": list(range(4 * b, 4 * b + 4)), "enter:1": list(range(4 * b, 4 * b + 4))}
        for b in range(2)
    ]
    (refusal,) = [r for r in coupling.refusals if r.tensor == "w"]
    assert refusal.why.startswith("2 of 10 indices: blocks of 4 share a scale, and the last block is not full")


def test_one_full_block_before_one_that_is_not() -> None:
    """It could go alone; but a group has two units at least, of which one stays."""
    coupling = analyse(blocked(block=4, rows=6))
    assert [g.size for g in coupling.groups] == [6]


def test_a_single_block_stays() -> None:
    coupling = analyse(blocked(block=8, rows=8))
    assert [g.size for g in coupling.groups] == [6]
    (refusal,) = [r for r in coupling.refusals if r.tensor == "w"]
    assert refusal.why.startswith("its one scale is for the whole axis")


def test_blocks_along_the_other_axis() -> None:
    coupling = assert_prunes_exactly(blocked(block=3, axis=1))
    assert sorted(g.size for g in coupling.groups) == [2, 8]


# -- dynamic and integer operators -----------------------------------------------------------------------------


def dynamic_model() -> onnx.ModelProto:
    """What quantize_dynamic writes: DynamicQuantizeLinear, MatMulInteger, Cast, two Mul and an Add, twice."""
    nodes, weights = [], {}
    for layer, (name, rows, columns) in enumerate([("x", 4, 6), ("h", 6, 3)]):
        out = ["h", "out"][layer]
        nodes += [
            make_node("DynamicQuantizeLinear", [name], [f"{name}_q", f"{name}_s", f"{name}_z"]),
            make_node("MatMulInteger", [f"{name}_q", f"w{layer}", f"{name}_z", f"z{layer}"], [f"i{layer}"]),
            make_node("Cast", [f"i{layer}"], [f"f{layer}"], to=TensorProto.FLOAT),
            make_node("Mul", [f"{name}_s", f"s{layer}"], [f"s{layer}_all"]),
            make_node("Mul", [f"f{layer}", f"s{layer}_all"], [f"m{layer}"]),
            make_node("Add", [f"m{layer}", f"b{layer}"], [out]),
        ]
        weights |= {
            f"w{layer}": int8(rows, columns, seed=layer), f"z{layer}": int8(columns), f"s{layer}": scales(columns),
            f"b{layer}": [columns],
        }  # fmt: skip
    return make_model(nodes, {"x": [5, 4]}, ["out"], weights, opset=13)


def test_a_dynamic_range_takes_in_zero_and_is_exact_to_the_bit() -> None:
    coupling = assert_prunes_exactly(dynamic_model(), tolerance=0.0)
    (group,) = coupling.groups
    assert group.exact
    assert units(coupling) == {
        group.name: [{"w0:1": [i], "z0:0": [i], "s0:0": [i], "b0:0": [i], "w1:0": [i]} for i in range(6)]
    }


def static_matmul(op: str, by_column: bool) -> onnx.ModelProto:
    """x quantised -> QLinearMatMul or MatMulInteger, twice, with a zero point that is not zero -> float."""
    weights = {
        "s": scalar(0.03), "z": scalar(117, np.uint8), "w0": int8(4, 6), "w1": int8(6, 3, seed=5), "s_out": scalar(0.9),
    }  # fmt: skip
    for layer, columns in enumerate((6, 3)):
        weights[f"z{layer}"] = int8(columns) if by_column and op == "MatMulInteger" else scalar(0, np.int8)
        weights[f"s{layer}"] = scales(columns) if by_column else scalar(0.01)
        if by_column and op == "QLinearMatMul":
            weights[f"z{layer}"] = np.zeros(columns, np.int8)
    nodes = [make_node("QuantizeLinear", ["x", "s", "z"], ["x_q"])]
    if op == "QLinearMatMul":
        for layer, (a, out) in enumerate([("x_q", "h_q"), ("h_q", "y_q")]):
            inputs = [a, "s", "z", f"w{layer}", f"s{layer}", f"z{layer}", "s", "z"]
            nodes.append(make_node(op, inputs, [out]))
        nodes.append(make_node("DequantizeLinear", ["y_q", "s", "z"], ["out"]))
    else:
        nodes += [
            make_node(op, ["x_q", "w0", "z", "z0"], ["i0"]),
            make_node("Cast", ["i0"], ["f0"], to=TensorProto.FLOAT),
            make_node("Mul", ["f0", "s0"], ["h"]),
            make_node("QuantizeLinear", ["h", "s_out", "z"], ["h_q"]),
            make_node(op, ["h_q", "w1", "z", "z1"], ["i1"]),
            make_node("Cast", ["i1"], ["out"], to=TensorProto.FLOAT),
        ]
    return make_model(nodes, {"x": [5, 4]}, ["out"], weights, opset=13)


@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("op", ["QLinearMatMul", "MatMulInteger"])
def test_integer_products_are_exact_to_the_bit(op: str, by_column: bool) -> None:
    """The oracle puts the zero point, 117, where an input goes: a zero there would count as -117."""
    coupling = assert_prunes_exactly(static_matmul(op, by_column), tolerance=0.0)
    ((*found,),) = units(coupling).values()
    assert found[2]["w0:1"] == found[2]["w1:0"] == [2]
    assert ("s0:0" in found[2]) is by_column
    assert coupling.cost().macs == 5 * 4 * 6 + 5 * 6 * 3


def static_conv(groups: int = 1, by_channel: bool = True) -> onnx.ModelProto:
    """Three QLinearConv, the second grouped."""
    kernels = {"k0": (8, 3, 3, 3), "k1": (8, 8 // groups, 3, 3), "k2": (5, 8, 1, 1)}
    weights = {"s": scalar(0.03), "z": scalar(131, np.uint8)}
    nodes = [make_node("QuantizeLinear", ["x", "s", "z"], ["q0"])]
    for layer, (name, shape) in enumerate(kernels.items()):
        weights[name] = int8(*shape, seed=layer)
        weights[f"s{layer}"] = scales(shape[0]) if by_channel else scalar(0.01)
        weights[f"z{layer}"] = np.zeros(shape[0], np.int8) if by_channel else scalar(0, np.int8)
        weights[f"b{layer}"] = np.random.default_rng(layer).integers(-900, 900, shape[0]).astype(np.int32)
        inputs = [f"q{layer}", "s", "z", name, f"s{layer}", f"z{layer}", "s", "z", f"b{layer}"]
        attrs = {"group": groups} if layer == 1 and groups > 1 else {}
        nodes.append(make_node("QLinearConv", inputs, [f"q{layer + 1}"], **attrs))
    nodes.append(make_node("DequantizeLinear", ["q3", "s", "z"], ["out"]))
    return make_model(nodes, {"x": [1, 3, 8, 8]}, ["out"], weights, opset=10)


@pytest.mark.parametrize("by_channel", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 8])
def test_qlinear_conv_is_exact_to_the_bit(groups: int, by_channel: bool) -> None:
    coupling = assert_prunes_exactly(static_conv(groups, by_channel), tolerance=0.0)
    assert all(g.exact and g.kind == "channels" for g in coupling.groups)


def test_qlinear_conv_s_group_follows() -> None:
    model = static_conv(groups=8)
    (group,) = analyse(model).groups
    edited = pruned(model, {group.name: [0, 3, 7]})
    (node,) = [n for n in edited.graph.node if n.output[0] == "q2"]
    assert helper.get_attribute_value(node.attribute[0]) == 3
    assert shapes(edited)["k1"] == (3, 1, 3, 3)
    assert shapes(edited)["s1"] == shapes(edited)["z1"] == shapes(edited)["b1"] == (3,)


def test_conv_integer() -> None:
    weights = {"s": scalar(0.03), "z": scalar(117, np.uint8), "w0": uint8(6, 3, 3, 3), "w1": uint8(4, 6, 3, 3, seed=4),
               "wz": scalar(120, np.uint8), "s_out": scalar(200.0)}  # fmt: skip
    nodes = [
        make_node("QuantizeLinear", ["x", "s", "z"], ["x_q"]),
        make_node("ConvInteger", ["x_q", "w0", "z", "wz"], ["i0"]),
        make_node("Cast", ["i0"], ["f0"], to=TensorProto.FLOAT),
        make_node("QuantizeLinear", ["f0", "s_out", "z"], ["h_q"]),
        make_node("ConvInteger", ["h_q", "w1", "z", "wz"], ["i1"]),
        make_node("Cast", ["i1"], ["out"], to=TensorProto.FLOAT),
    ]
    model = make_model(nodes, {"x": [1, 3, 8, 8]}, ["out"], weights, opset=13)
    coupling = assert_prunes_exactly(model, tolerance=0.0)
    assert units(coupling) == {"w0:0": [{"w0:0": [i], "w1:1": [i]} for i in range(6)]}


def test_zero_points_by_row_freeze() -> None:
    nodes = [make_node("MatMulInteger", ["x", "w", "rows"], ["i"]), make_node("Cast", ["i"], ["out"], to=1)]
    weights = {"w": int8(4, 6), "rows": uint8(5)}
    model = make_model(nodes, {"x": [5, 4]}, ["out"], weights, opset=13, input_types={"x": TensorProto.UINT8})
    coupling = analyse(model)
    assert coupling.groups == ()
    assert any("zero points by row" in r.why for r in coupling.refusals)


def test_the_oracle_masks_with_the_zero_point() -> None:
    coupling = analyse(static_matmul("QLinearMatMul", by_column=False))
    masked = mask_classes(coupling, coupling.removed_classes({0: [0, 1]})).proto.graph
    (where,) = [n for n in masked.node if n.op_type == "Where"]
    assert list(where.input[1:]) == ["h_q", "z"]
    (mask,) = [t for t in masked.initializer if t.name == where.input[0]]
    assert numpy_helper.to_array(mask).tolist() == [[True, True, False, False, False, False]]


def test_the_oracle_quantises_again_what_it_masks_behind_a_decoder() -> None:
    """So that a runtime can go on fusing the decoder with what reads it, and computes both models in integers."""
    coupling = analyse(qdq_convolutions())
    masked = mask_classes(coupling, coupling.removed_classes({0: [0, 1]})).proto.graph
    made = {output: node for node in masked.node for output in node.output}
    (last,) = [n for n in masked.node if n.output[0] == "out"]
    decoder = made[last.input[0]]
    quantiser = made[decoder.input[0]]
    masking = made[quantiser.input[0]]
    assert [n.op_type for n in (decoder, quantiser, masking)] == ["DequantizeLinear", "QuantizeLinear", "Mul"]
    assert list(decoder.input[1:]) == list(quantiser.input[1:]) == ["act_scale", "act_zero"]
    assert masking.input[0] == "r1_dq"


def test_fused_by_the_runtime_both_models_are_equal_to_the_bit() -> None:
    """A sum that branches to a convolution and to the next sum: QLinearConv and QLinearAdd once it is fused."""
    weights: dict[str, np.ndarray | Sequence[int]] = {
        "s": scalar(0.03), "z": scalar(3, np.int8), "k0": int8(6, 3, 3, 3), "k1": int8(6, 6, 3, 3, seed=2),
        "k2": int8(6, 6, 3, 3, seed=3), "k3": int8(4, 6, 3, 3, seed=4),
        **{f"k{i}_scale": scales(4 if i == 3 else 6, seed=i) / 3 for i in range(4)},
    }  # fmt: skip
    nodes = []

    def through(name: str) -> str:
        nodes.append(make_node("QuantizeLinear", [name, "s", "z"], [f"{name}_q"]))
        nodes.append(make_node("DequantizeLinear", [f"{name}_q", "s", "z"], [f"{name}_dq"]))
        return f"{name}_dq"

    def conv(x: str, kernel: int) -> str:
        nodes.append(make_node("DequantizeLinear", [f"k{kernel}", f"k{kernel}_scale"], [f"k{kernel}_dq"], axis=0))
        nodes.append(make_node("Conv", [x, f"k{kernel}_dq"], [f"c{kernel}"], pads=[1, 1, 1, 1]))
        return through(f"c{kernel}")

    stream = conv(through("x"), 0)
    for kernel in (1, 2):
        nodes.append(make_node("Add", [stream, conv(stream, kernel)], [f"a{kernel}"]))
        stream = through(f"a{kernel}")
    nodes.append(make_node("Identity", [conv(stream, 3)], ["out"]))
    coupling = analyse(make_model(nodes, {"x": [1, 3, 8, 8]}, ["out"], weights, opset=17))
    (group,) = coupling.groups
    assert (group.size, group.kind, group.exact) == (6, "width", True)
    removed = coupling.removed_classes({0: [0, 2, 3]})
    feeds = random_feeds(coupling)
    answers = [fused(model, feeds) for model in (edit(coupling, removed).model, mask_classes(coupling, removed))]
    np.testing.assert_array_equal(answers[0], answers[1])
    assert distance([fused(coupling.view.model, feeds)], [answers[1]]) > 0.1


def fused(model: Model, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """The output in ONNX Runtime with everything that it fuses, int8 activations too."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    session = onnxruntime.InferenceSession(
        model.to_proto().SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)[0]
