"""as_strided of a tensor as it lies: a Gather of all its elements in order is a Reshape, for any batch."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.graph.io import load
from tests.support.literals import inputs_of, ops
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly, run
from tests.support.pruned import pruned

WIDTH = 6


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


def scalar(value: int) -> np.ndarray:
    return np.asarray(value, np.int64)


def pooled(stride: int = WIDTH, channels: int = WIDTH) -> onnx.ModelProto:
    """x [batch, 3, 4, 5] -> Conv w1 -> mean over space -> as_strided to [batch, channels] -> MatMul w2.

    The index of element (n, c) is n * stride + c, spelled as torch's exporter spells it.
    """
    return make_model(
        [
            make_node("Conv", ["x", "w1"], ["h"]),
            make_node("ReduceMean", ["h"], ["mean"], axes=[2, 3]),
            make_node("Shape", ["x"], ["length"], start=0, end=1),
            make_node("Squeeze", ["length"], ["batch"]),
            make_node("Range", ["zero", "batch", "one"], ["rows"]),
            make_node("Mul", ["rows", "stride"], ["offsets"]),
            make_node("Unsqueeze", ["offsets", "last"], ["column"]),
            make_node("Add", ["column", "channels"], ["indices"]),
            make_node("Reshape", ["mean", "flat"], ["line"]),
            make_node("Gather", ["line", "indices"], ["y"], axis=0),
            make_node("MatMul", ["y", "w2"], ["out"]),
        ],
        {"x": ["batch", 3, 4, 5]},
        ["out"],
        {
            "w1": [WIDTH, 3, 1, 1], "w2": [channels, 4], "zero": scalar(0), "one": scalar(1),
            "stride": scalar(stride), "last": ints(-1), "channels": np.arange(channels), "flat": ints(-1),
        },
    )  # fmt: skip


@pytest.mark.parametrize("batch", [1, 2])
def test_channels_go_through_it(batch: int) -> None:
    coupling = assert_prunes_exactly(pooled(), bind={"batch": batch}, seeds=range(4))
    assert units(coupling) == {"w1:0": [{"w1:0": [c], "w2:0": [c]} for c in range(WIDTH)]}


def test_it_becomes_a_reshape_that_works_for_any_batch() -> None:
    edited = pruned(pooled(), {"w1:0": [1, 4]}, bind={"batch": 1})
    assert ops(edited) == ["Conv", "ReduceMean", "Reshape", "MatMul"]
    assert inputs_of(edited, "Reshape", 1) == [[0, 2]]
    assert {t.name for t in edited.graph.initializer} == {"w1", "w2", "y_reshape"}
    x = np.random.default_rng(0).normal(size=(5, 3, 4, 5)).astype(np.float32)
    assert run(load(edited), {"x": x})[0].shape == (5, 4)


def test_a_stride_that_only_fits_one_batch_is_no_reshape() -> None:
    """With a batch of one the stride does not show: every row would read the same elements."""
    coupling = analyse(pooled(stride=0), bind={"batch": 1})
    assert coupling.groups == ()


def test_a_part_of_the_elements_is_no_reshape() -> None:
    assert analyse(pooled(channels=4), bind={"batch": 1}).groups == ()
