"""Branches joined on channels: whoever reads the join reads each branch at its offset."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly


def conv(x: str, name: str, y: str) -> onnx.NodeProto:
    """A 3x3 convolution by the weight `name`, of the same size."""
    return make_node("Conv", [x, name], [y], pads=[1, 1, 1, 1])


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


SPLIT_HALVES = [make_node("Split", ["h"], ["left", "right"], axis=1)]
SLICED_HALVES = [
    make_node("Slice", ["h", "zero", "half", "one"], ["left"]),
    make_node("Slice", ["h", "half", "far", "one"], ["right"]),
]


@pytest.mark.parametrize("halves", [SPLIT_HALVES, SLICED_HALVES], ids=["split", "slices"])
@pytest.mark.parametrize("shortcut", [False, True])
def test_c2f(halves: list[onnx.NodeProto], shortcut: bool) -> None:
    """YOLOv8's C2f: halves, a bottleneck on the second, all concatenated; a shortcut ties half and bottleneck."""
    model = make_model(
        [
            make_node("Conv", ["x", "w_in"], ["h0"]),
            make_node("Relu", ["h0"], ["h"]),
            *halves,
            conv("right", "w_a", "a0"),
            make_node("Relu", ["a0"], ["a"]),
            conv("a", "w_b", "b0"),
            make_node("Add", ["b0", "right"], ["b"]) if shortcut else make_node("Relu", ["b0"], ["b"]),
            make_node("Concat", ["left", "right", "b"], ["all"], axis=1),
            make_node("Conv", ["all", "w_out"], ["out"]),
        ],
        {"x": [1, 3, 5, 5]},
        ["out"],
        {
            "w_in": [8, 3, 1, 1], "w_a": [3, 4, 3, 3], "w_b": [4, 3, 3, 3], "w_out": [5, 12, 1, 1],
            "zero": ints(0), "half": ints(4), "far": ints(2**63 - 1), "one": ints(1),
        },
    )  # fmt: skip
    found = units(assert_prunes_exactly(model, seeds=range(4)))
    left = [{"w_in:0": [i], "w_out:1": [i]} for i in range(4)]
    inner = [{"w_a:0": [i], "w_b:1": [i]} for i in range(3)]
    right = [{"w_in:0": [4 + i], "w_a:1": [i], "w_out:1": [4 + i]} for i in range(4)]
    last = [{"w_b:0": [i], "w_out:1": [8 + i]} for i in range(4)]
    tied = [{"w_in:0": [4 + i], "w_a:1": [i], "w_b:0": [i], "w_out:1": [4 + i, 8 + i]} for i in range(4)]
    expected = [left, tied, inner] if shortcut else [left, right, inner, last]
    assert sorted(found.values(), key=str) == sorted(expected, key=str)


def test_dense_growth() -> None:
    """DenseNet: every layer reads all before it, at growing offsets (https://arxiv.org/abs/1608.06993)."""
    model = make_model(
        [
            make_node("Conv", ["x", "w0"], ["f0"]),
            conv("f0", "w1", "f1"),
            make_node("Concat", ["f0", "f1"], ["c1"], axis=1),
            make_node("BatchNormalization", ["c1", "scale", "shift", "mean", "var"], ["n1"]),
            make_node("Relu", ["n1"], ["r1"]),
            conv("r1", "w2", "f2"),
            make_node("Concat", ["f0", "f1", "f2"], ["c2"], axis=1),
            make_node("Conv", ["c2", "w3"], ["out"]),
        ],
        {"x": [1, 3, 5, 5]},
        ["out"],
        {
            "w0": [4, 3, 1, 1], "w1": [2, 4, 3, 3], "w2": [2, 6, 3, 3], "w3": [5, 8, 1, 1], "scale": [6],
            "shift": [6], "mean": [6], "var": np.linspace(0.5, 2, 6).astype(np.float32),
        },
    )  # fmt: skip
    norm = ("scale:0", "shift:0", "mean:0", "var:0")
    assert units(assert_prunes_exactly(model, seeds=range(4))) == {
        "w0:0": [{"w0:0": [i], "w1:1": [i], **{n: [i] for n in norm}, "w2:1": [i], "w3:1": [i]} for i in range(4)],
        "w1:0": [{"w1:0": [i], **{n: [4 + i] for n in norm}, "w2:1": [4 + i], "w3:1": [4 + i]} for i in range(2)],
        "w2:0": [{"w2:0": [i], "w3:1": [6 + i]} for i in range(2)],
    }


def test_unet_skip() -> None:
    """U-Net: what goes down is joined to what comes up, so the encoder's channels are read twice."""
    model = make_model(
        [
            conv("x", "w_down", "d0"),
            make_node("Relu", ["d0"], ["skip"]),
            make_node("MaxPool", ["skip"], ["small"], kernel_shape=[2, 2], strides=[2, 2]),
            conv("small", "w_deep", "e0"),
            make_node("Relu", ["e0"], ["deep"]),
            make_node("ConvTranspose", ["deep", "w_up"], ["up"], kernel_shape=[2, 2], strides=[2, 2]),
            make_node("Concat", ["up", "skip"], ["both"], axis=1),
            conv("both", "w_out", "out"),
        ],
        {"x": [1, 3, 6, 6]},
        ["out"],
        {"w_down": [4, 3, 3, 3], "w_deep": [5, 4, 3, 3], "w_up": [5, 3, 2, 2], "w_out": [2, 7, 3, 3]},
    )
    assert units(assert_prunes_exactly(model, seeds=range(4))) == {
        "w_down:0": [{"w_down:0": [i], "w_deep:1": [i], "w_out:1": [3 + i]} for i in range(4)],
        "w_deep:0": [{"w_deep:0": [i], "w_up:0": [i]} for i in range(5)],
        "w_up:1": [{"w_up:1": [i], "w_out:1": [i]} for i in range(3)],
    }
