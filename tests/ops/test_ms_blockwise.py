"""com.microsoft's weights of few bits: columns go freely, rows in whole blocks, packed zero points are written anew."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.graph.packing import pack, unpack
from tests.support.models import units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import array, attributes, pruned, shapes
from tests.support.quantised import ms_model, ms_node, scales
from tests.support.sandwich import one_by_one

BLOCK = 16


def packed_model(
    rows: int = 48, bits: int = 4, zeros: str = "packed", flat: bool = False, groups: bool = False, columns: int = 6
) -> onnx.ModelProto:
    """x [2, 3] -> MatMul `enter` -> h [2, rows] -> MatMulNBits [rows, columns] -> y -> MatMul `leave` -> out.

    `zeros`: "packed", "floats" or "" for none; `flat`: scales and zero points of rank 1; `groups`: with a g_idx.
    """
    rng, blocks = np.random.default_rng(5), -(-rows // BLOCK)
    stored = rng.integers(0, 1 << bits, (columns, blocks, BLOCK)).astype(np.uint8)
    weights: dict[str, Any] = {
        "enter": [3, rows], "b": pack(stored, bits), "s": scales(columns, blocks), "bias": [columns],
        "leave": [columns, 2],
    }  # fmt: skip
    if zeros == "packed":
        weights["z"] = pack(rng.integers(0, 1 << bits, (columns, blocks)).astype(np.uint8), bits)
    elif zeros == "floats":
        weights["z"] = rng.uniform(6, 9, (columns, blocks)).astype(np.float32)
    if groups:
        weights["g"] = (np.arange(rows) % blocks).astype(np.int32)
    if flat:
        weights |= {name: weights[name].reshape(-1) for name in ("s", "z") if name in weights}
    inputs = ["h", "b", "s", "z" if zeros else "", "g" if groups else "", "bias"]
    nodes = [
        make_node("MatMul", ["x", "enter"], ["h"]),
        ms_node("MatMulNBits", inputs, ["y"], K=rows, N=columns, bits=bits, block_size=BLOCK),
        make_node("MatMul", ["y", "leave"], ["out"]),
    ]
    return ms_model(nodes, {"x": [2, 3]}, weights, rank=2)


def block(index: int) -> list[int]:
    return list(range(BLOCK * index, BLOCK * (index + 1)))


def test_columns_go_freely_and_rows_by_block() -> None:
    coupling = assert_prunes_exactly(packed_model())
    assert units(coupling) == {
        "enter:1": [{"enter:1": block(i), "b:1": [i], "s:1": [i]} for i in range(3)],
        "b:0": one_by_one(6, "b:0", "s:0", "z:0", "bias:0", "leave:0"),
    }
    assert all(group.exact for group in coupling.groups)
    assert coupling.cost().macs == 2 * (3 * 48 + 48 * 6 + 6 * 2)


@pytest.mark.parametrize("zeros", ["packed", "floats", ""])
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("rows", [48, 64])
def test_every_layout(zeros: str, flat: bool, rows: int) -> None:
    coupling = assert_prunes_exactly(packed_model(rows, zeros=zeros, flat=flat))
    assert [group.size for group in coupling.groups] == [rows // BLOCK, 6]


@pytest.mark.parametrize("bits", [2, 8])
def test_other_widths(bits: int) -> None:
    coupling = assert_prunes_exactly(packed_model(bits=bits))
    assert [group.size for group in coupling.groups] == [3, 6]


def test_zero_points_are_packed_anew() -> None:
    model = packed_model()
    edited = pruned(model, {"enter:1": [0, 2], "b:0": [1, 5]})
    (node,) = [n for n in edited.graph.node if n.op_type == "MatMulNBits"]
    dense = unpack(array(model, "z"), 4, 3)
    (zeros,) = [numpy_helper.to_array(t) for t in edited.graph.initializer if t.name == node.input[3]]
    np.testing.assert_array_equal(zeros, pack(dense[[1, 5]][:, [0, 2]], 4), strict=True)
    assert attributes(edited, "MatMulNBits") == {"K": 32, "N": 2, "bits": 4, "block_size": BLOCK}
    assert shapes(edited)["b"] == (2, 2, BLOCK // 2)
    np.testing.assert_array_equal(array(edited, "s"), array(model, "s")[[1, 5]][:, [0, 2]], strict=True)
    np.testing.assert_array_equal(array(edited, "b"), array(model, "b")[[1, 5]][:, [0, 2]], strict=True)


def test_flat_scales_are_sliced_by_row_and_block() -> None:
    model = packed_model(flat=True)
    edited = pruned(model, {"enter:1": [0, 2], "b:0": [1, 5]})
    np.testing.assert_array_equal(array(edited, "s"), array(model, "s")[[3, 5, 15, 17]], strict=True)


def test_only_columns_leave_zero_points_as_they_are() -> None:
    model = packed_model()
    edited = pruned(model, {"b:0": [1, 5]})
    np.testing.assert_array_equal(array(edited, "z"), array(model, "z")[[1, 5]], strict=True)


def test_a_last_block_that_is_not_full_stays_the_last() -> None:
    coupling = assert_prunes_exactly(packed_model(rows=40))
    assert units(coupling)["enter:1"] == [{"enter:1": block(i), "b:1": [i], "s:1": [i]} for i in range(2)]
    model = packed_model(rows=40)
    assert attributes(pruned(model, {"enter:1": [1]}), "MatMulNBits")["K"] == 24


def test_rows_with_scales_of_their_own_stay() -> None:
    coupling = analyse(packed_model(groups=True))
    assert [group.size for group in coupling.groups] == [6]
    assert any("g_idx" in r.why for r in coupling.refusals)


def test_weights_for_one_processor_are_declined() -> None:
    model = packed_model()
    (node,) = [n for n in model.graph.node if n.op_type == "MatMulNBits"]
    node.attribute.append(onnx.helper.make_attribute("weight_prepacked", 1))
    coupling = analyse(model)
    assert coupling.groups == ()
    assert any("laid out for one processor" in r.why for r in coupling.refusals)


# -- MatMulBnb4 ------------------------------------------------------------------------------------------------


def bnb_model(rows: int = 32) -> onnx.ModelProto:
    """x [2, rows] -> MatMulBnb4 [rows, 6] of NF4 in blocks of 16 -> MatMul `leave` -> out."""
    count = rows * 6
    weights = {
        "b": np.random.default_rng(5).integers(0, 256, count // 2).astype(np.uint8),
        "a": np.random.default_rng(6).uniform(0.5, 2, -(-count // BLOCK)).astype(np.float32),
        "leave": [6, 2],
    }
    attrs = {"K": rows, "N": 6, "block_size": BLOCK, "quant_type": 1, "transB": 1}
    nodes = [ms_node("MatMulBnb4", ["x", "b", "a"], ["y"], **attrs), make_node("MatMul", ["y", "leave"], ["out"])]
    return ms_model(nodes, {"x": [2, rows]}, weights, rank=2)


def test_columns_of_whole_blocks_go() -> None:
    coupling = assert_prunes_exactly(bnb_model())
    ((_, members),) = units(coupling).items()
    assert members == [
        {"b:0": list(range(16 * i, 16 * i + 16)), "a:0": [2 * i, 2 * i + 1], "leave:0": [i]} for i in range(6)
    ]
    model = bnb_model()
    edited = pruned(model, {coupling.groups[0].name: [0, 2, 5]})
    assert attributes(edited, "MatMulBnb4")["N"] == 3
    np.testing.assert_array_equal(array(edited, "a"), array(model, "a")[[0, 1, 4, 5, 10, 11]], strict=True)


def test_blocks_across_columns_stay() -> None:
    coupling = analyse(bnb_model(rows=40))
    assert coupling.groups == ()
    assert any(
        r.why == "blocks of 16 share a scale, and hold parts of several of its columns" for r in coupling.refusals
    )


# -- GatherBlockQuantized --------------------------------------------------------------------------------------


def table_model(
    zeros: bool = True, axis: int = 1, words: int = 32, bits: int = 4, stored: str = "bytes"
) -> onnx.ModelProto:
    """ids [2, 5] -> GatherBlockQuantized of a table [words, 64], blocks of 16 along `axis` -> MatMul `leave` -> out."""
    rng, width = np.random.default_rng(5), 64
    shape = (words // BLOCK, width) if axis == 0 else (words, width // BLOCK)
    table = rng.integers(0, 1 << bits, (words, width)).astype(np.uint8)
    points = rng.integers(0, 1 << bits, shape).astype(np.uint8)
    weights: dict[str, Any] = {"s": scales(*shape), "leave": [width, 2]}
    if stored == "bytes":
        weights |= {"t": pack(table, bits), "z": pack(points, bits)}
    else:
        import ml_dtypes

        weights |= {"t": table.astype(ml_dtypes.uint4), "z": points.astype(ml_dtypes.uint4)}
    inputs = ["t", "ids", "s", *(["z"] if zeros else [])]
    if not zeros:
        del weights["z"]
    attrs = {"gather_axis": 0, "quantize_axis": axis, "block_size": BLOCK, "bits": bits}
    nodes = [
        ms_node("GatherBlockQuantized", inputs, ["h"], **attrs),
        make_node("MatMul", ["h", "leave"], ["out"]),
    ]
    types = {"ids": onnx.TensorProto.INT64}
    return ms_model(nodes, {"ids": [2, 5]}, weights, rank=3, input_types=types, opset=21)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_a_table_s_blocks_go_as_a_whole(zeros: bool, bits: int) -> None:
    coupling = assert_prunes_exactly(table_model(zeros, bits=bits))
    per_byte = 8 // bits
    size = BLOCK // per_byte
    points = ["z:1"] if zeros and bits == 8 else []
    assert units(coupling) == {
        coupling.groups[0].name: [
            {
                "t:1": list(range(size * i, size * (i + 1))), "s:1": [i], **{p: [i] for p in points},
                "leave:0": block(i),
            }
            for i in range(4)
        ]
    }  # fmt: skip


def test_a_table_of_small_integers() -> None:
    coupling = assert_prunes_exactly(table_model(stored="uint4"))
    assert units(coupling) == {
        coupling.groups[0].name: [{"t:1": block(i), "s:1": [i], "z:1": [i], "leave:0": block(i)} for i in range(4)]
    }


def test_a_table_s_zero_points_are_packed_anew() -> None:
    model = table_model()
    (group,) = analyse(model).groups
    edited = pruned(model, {group.name: [1, 2, 3]})
    (node,) = [n for n in edited.graph.node if n.op_type == "GatherBlockQuantized"]
    (zeros,) = [numpy_helper.to_array(t) for t in edited.graph.initializer if t.name == node.input[3]]
    np.testing.assert_array_equal(zeros, pack(unpack(array(model, "z"), 4, 4)[:, [1, 2, 3]], 4), strict=True)
    np.testing.assert_array_equal(array(edited, "t"), array(model, "t")[:, 8:], strict=True)


def test_blocks_along_rows_leave_columns_free() -> None:
    coupling = assert_prunes_exactly(table_model(axis=0, stored="uint4"))
    (group,) = coupling.groups
    assert units(coupling) == {group.name: one_by_one(64, "t:1", "s:1", "z:1", "leave:0")}
