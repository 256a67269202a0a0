"""Quantised weights are judged by the real numbers that their operators make of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.helper import make_node

from onnxprune.graph.io import load
from onnxprune.graph.packing import pack
from onnxprune.graph.view import GraphView
from onnxprune.importance.magnitude import sums_of_squares
from onnxprune.importance.weights import is_weight_at, weight
from tests.support.quantised import ms_model, ms_node, scalar


def real(node: onnx.NodeProto, arrays: dict[str, np.ndarray], name: str = "w") -> list[Any] | None:
    """What the stored tensor `name` is taken for, where only `node` reads it."""
    model = ms_model([node], {"x": [1]}, arrays)
    found = weight(GraphView(load(model)), name)
    return None if found is None else np.concatenate([block for _, block in found.blocks()]).tolist()


INTEGERS = np.array([[1, 3], [5, 7]], np.int8)
COLUMNS = {"w": INTEGERS, "s": np.array([2, 10], np.float32), "z": np.array([1, 3], np.int8)}
BY_COLUMN = [[0.0, 0.0], [8.0, 40.0]]
BY_ROW = [[0.0, 4.0], [20.0, 40.0]]


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (make_node("QLinearMatMul", ["x", "a", "b", "w", "s", "z", "c", "d"], ["out"]), BY_COLUMN),
        (ms_node("QGemm", ["x", "a", "b", "w", "s", "z"], ["out"]), BY_COLUMN),
        (ms_node("QGemm", ["x", "a", "b", "w", "s", "z"], ["out"], transB=1), BY_ROW),
        (ms_node("MatMulIntegerToFloat", ["x", "w", "a", "s", "b", "z"], ["out"]), BY_COLUMN),
        (ms_node("DynamicQuantizeMatMul", ["x", "w", "s", "z"], ["out"]), BY_COLUMN),
        (ms_node("QAttention", ["x", "w", "b", "a", "s", "", "c", "z"], ["out"]), BY_COLUMN),
        (ms_node("DequantizeLinear", ["w", "s", "z"], ["out"], axis=0), BY_ROW),
    ],
)
def test_scales_of_columns_and_rows(node: onnx.NodeProto, expected: list) -> None:
    assert real(node, COLUMNS) == expected


@pytest.mark.parametrize("domain", ["", "com.microsoft"])
def test_a_kernel_has_a_scale_an_output_channel(domain: str) -> None:
    node = make_node("QLinearConv", ["x", "a", "b", "w", "s", "z", "c", "d"], ["out"], domain=domain)
    expected = [[[[v]] for v in row] for row in BY_ROW]
    assert real(node, {**COLUMNS, "w": INTEGERS.reshape(2, 2, 1, 1)}) == expected


def test_one_scale_for_a_table_and_a_constant() -> None:
    arrays = {"w": INTEGERS, "s": scalar(0.5), "z": scalar(1, np.int8)}
    inputs = ["x", "", "w", "p", "", "g", "b", "", "s", *"abcd", "z", *"efgh"]
    expected = [[0.0, 1.0], [2.0, 3.0]]
    assert real(ms_node("QEmbedLayerNormalization", inputs, ["out"]), arrays) == expected
    assert real(ms_node("QLinearAdd", ["x", "a", "b", "w", "s", "z", "c", "d"], ["out"]), arrays) == expected
    assert real(ms_node("QLinearMul", ["w", "s", "z", "x", "a", "b", "c", "d"], ["out"]), arrays) == expected


@pytest.mark.parametrize("by_column", [False, True])
def test_an_lstm_s_weights(by_column: bool) -> None:
    """Scales [directions] or [directions, columns] for weights [directions, rows, columns]."""
    arrays = {
        "w": INTEGERS.reshape(1, 2, 2),
        "s": np.array([[2, 10]] if by_column else [2], np.float32),
        "z": np.array([[1, 3]] if by_column else [1], np.int8),
    }
    node = ms_node("DynamicQuantizeLSTM", ["x", "w", "r", "", "", "", "", "", "s", "z", "a", "b"], ["out"])
    assert real(node, arrays) == ([BY_COLUMN] if by_column else [[[0.0, 4.0], [8.0, 12.0]]])


def integer_product(op: str, weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    nodes = [
        make_node("DynamicQuantizeLinear", ["x"], ["q", "xs", "xz"]),
        make_node(op, ["q", "w", "xz", "z"], ["i"]),
        make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        make_node("Mul", ["xs", "s"], ["both"]),
        make_node("Mul", ["f", "both"], ["out"]),
    ]
    return ms_model(nodes, {"x": [2, 2]}, weights)


def test_a_scale_behind_an_integer_product() -> None:
    found = weight(GraphView(load(integer_product("MatMulInteger", COLUMNS))), "w")
    assert found is not None
    assert sums_of_squares(found, [0, 1]) == {0: pytest.approx([0, 1664]), 1: pytest.approx([64, 1600])}


def test_a_scale_behind_an_integer_convolution() -> None:
    stored = INTEGERS.reshape(2, 1, 2, 1)
    kernel = {**COLUMNS, "w": stored, "s": np.array([2, 10], np.float32).reshape(2, 1, 1)}
    found = weight(GraphView(load(integer_product("ConvInteger", kernel))), "w")
    assert found is not None
    assert sums_of_squares(found, [0]) == {0: pytest.approx([16, 2000])}


def test_a_product_that_nothing_scales_is_taken_as_it_is_stored() -> None:
    assert real(make_node("MatMulInteger", ["x", "w"], ["out"]), {"w": INTEGERS}) == INTEGERS.tolist()


# -- packed weights --------------------------------------------------------------------------------------------

NUMBERS = np.arange(64).reshape(2, 2, 16) % 16  # columns, blocks, rows of a block
POINTS = np.array([[8, 1], [2, 15]])
SCALES = np.array([[1.0, 0.5], [2.0, 0.25]])
REAL = (NUMBERS - POINTS[..., None]) * SCALES[..., None]


def packed(zeros: str, bits: int = 4) -> dict[str, np.ndarray]:
    arrays = {"w": pack(NUMBERS.astype(np.uint8), bits), "s": SCALES.astype(np.float32)}
    if zeros == "packed":
        arrays["z"] = pack(POINTS.astype(np.uint8), bits)
    elif zeros == "floats":
        arrays["z"] = POINTS.astype(np.float32)
    return arrays


@pytest.mark.parametrize("zeros", ["packed", "floats"])
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_blocks_of_a_packed_matrix(zeros: str, flat: bool, bits: int) -> None:
    node = ms_node("MatMulNBits", ["x", "w", "s", "z"], ["out"], K=32, N=2, bits=bits, block_size=16)
    arrays = packed(zeros, bits)
    if flat:
        arrays |= {name: arrays[name].reshape(-1) for name in ("s", "z")}
    found = weight(GraphView(load(ms_model([node], {"x": [1, 32]}, arrays))), "w")
    assert found is not None
    sums = sums_of_squares(found, [0, 1])
    np.testing.assert_allclose(sums[0], (REAL**2).sum(axis=(1, 2)), rtol=1e-6)
    np.testing.assert_allclose(sums[1], (REAL**2).sum(axis=(0, 2)), rtol=1e-6)


def test_without_zero_points_the_middle_is_zero() -> None:
    node = ms_node("MatMulNBits", ["x", "w", "s"], ["out"], K=32, N=2, bits=4, block_size=16)
    found = weight(GraphView(load(ms_model([node], {"x": [1, 32]}, packed("")))), "w")
    assert found is not None
    expected = (((NUMBERS - 8) * SCALES[..., None]) ** 2).sum(axis=(1, 2))
    np.testing.assert_allclose(sums_of_squares(found, [0])[0], expected, rtol=1e-6)


def test_a_packed_table_by_its_bytes() -> None:
    table = NUMBERS.reshape(2, 32).astype(np.uint8)
    arrays = {"w": pack(table, 4), "s": SCALES.astype(np.float32), "z": pack(POINTS.astype(np.uint8), 4)}
    node = ms_node("GatherBlockQuantized", ["w", "x", "s", "z"], ["out"], quantize_axis=1, block_size=16, bits=4)
    found = weight(GraphView(load(ms_model([node], {"x": [1]}, arrays))), "w")
    assert found is not None
    bytes_of = (REAL.reshape(2, 16, 2) ** 2).sum(axis=2)  # two elements a byte
    np.testing.assert_allclose(sums_of_squares(found, [1])[1], bytes_of.sum(axis=0), rtol=1e-6)


def test_scales_and_zero_points_are_no_weights() -> None:
    model = ms_model(
        [
            ms_node("QGemm", ["x", "a", "b", "w", "s", "z", "c", "d", "e"], ["h"]),
            ms_node("MatMulNBits", ["h", "B", "scales", "zeros", "", "bias"], ["out"], K=2, N=2, block_size=16),
        ],
        {"x": [1, 2]},
        {},
    )
    gemm, packed_node = GraphView(load(model)).nodes
    assert [p for p in range(9) if is_weight_at(gemm, p)] == [0, 3, 6]
    assert [p for p in range(6) if is_weight_at(packed_node, p)] == [0, 1, 5]
