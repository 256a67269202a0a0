"""Pooling: channels go their own way, places stay, indices count over what came before them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx.helper import make_node, make_tensor_value_info

from onnxprune.analyse import analyse
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import array, pruned, shapes

CHANNELS = [{"w1:0": [i], "w2:1": [i]} for i in range(4)]


def between_convs(*nodes: onnx.NodeProto, opset: int = 17, **options: Any) -> onnx.ModelProto:
    """x [1, 2, 8, 8] -> Conv to 4 channels `a` -> `nodes` -> `b` -> Conv of 1x1 to 3 channels."""
    weights = {"w1": [4, 2, 1, 1], "w2": [3, 4, 1, 1], **options.pop("weights", {})}
    chain = [make_node("Conv", ["x", "w1"], ["a"]), *nodes, make_node("Conv", ["b", "w2"], ["out"])]
    inputs = {"x": [1, 2, 8, 8], **options.pop("inputs", {})}
    return make_model(chain, inputs, ["out"], weights, opset=opset, **options)


@pytest.mark.parametrize(
    ("op", "opset", "attrs"),
    [
        ("MaxPool", 7, {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("MaxPool", 12, {"kernel_shape": [3, 3], "ceil_mode": 1, "dilations": [2, 2]}),
        ("MaxPool", 22, {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER"}),
        ("AveragePool", 7, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
        ("AveragePool", 11, {"kernel_shape": [2, 2], "ceil_mode": 1}),
        ("AveragePool", 19, {"kernel_shape": [2, 2], "dilations": [2, 2]}),
        ("LpPool", 11, {"kernel_shape": [2, 2], "p": 2}),
        ("LpPool", 18, {"kernel_shape": [2, 2], "p": 3, "strides": [2, 2]}),
    ],
)
def test_windows_keep_channels_apart(op: str, opset: int, attrs: dict[str, Any]) -> None:
    model = between_convs(make_node(op, ["a"], ["b"], **attrs), opset=opset)
    assert units(assert_prunes_exactly(model)) == {"w1:0": CHANNELS}


def test_pooling_over_one_and_three_dimensions() -> None:
    for dims in (1, 3):
        ones = [1] * dims
        model = make_model(
            [
                make_node("Conv", ["x", "w1"], ["a"]),
                make_node("MaxPool", ["a"], ["b"], kernel_shape=[2] * dims),
                make_node("Conv", ["b", "w2"], ["out"]),
            ],
            {"x": [1, 2, *[4] * dims]},
            ["out"],
            {"w1": [4, 2, *ones], "w2": [3, 4, *ones]},
        )
        assert units(assert_prunes_exactly(model)) == {"w1:0": CHANNELS}


def test_places_stay_and_the_reason_says_so() -> None:
    """A stored table over places is tied to the pooled places."""
    model = between_convs(
        make_node("MaxPool", ["a"], ["m"], kernel_shape=[2, 2]),
        make_node("Add", ["m", "table"], ["b"]),
        weights={"table": [1, 1, 7, 7]},
    )
    found = [(r.tensor, r.axis, r.op, r.why) for r in analyse(model).refusals if r.tensor == "table"]
    assert found == [
        ("table", 2, "MaxPool", "spatial axis [m:2]"),
        ("table", 3, "MaxPool", "spatial axis [m:3]"),
    ]


def test_indices_that_are_given_out_freeze_the_channels() -> None:
    nodes = [
        make_node("Conv", ["x", "w1"], ["a"]),
        make_node("MaxPool", ["a"], ["b", "indices"], kernel_shape=[2, 2]),
        make_node("Cast", ["indices"], ["counted"], to=1),
        make_node("Add", ["b", "counted"], ["c"]),
        make_node("Conv", ["c", "w2"], ["out"]),
    ]
    coupling = analyse(make_model(nodes, {"x": [1, 2, 8, 8]}, ["out"], {"w1": [4, 2, 1, 1], "w2": [3, 4, 1, 1]}))
    assert units(coupling) == {}
    (why,) = {r.why for r in coupling.refusals if r.tensor == "w2" and r.axis == 1}
    assert why == "its indices are used, and they count over batch and channels [indices:1]"


def test_indices_that_nobody_reads_hold_nothing() -> None:
    model = between_convs(make_node("MaxPool", ["a"], ["b", "indices"], kernel_shape=[2, 2]))
    assert units(assert_prunes_exactly(model)) == {"w1:0": CHANNELS}


def unpool_model(size: list[int] | None) -> onnx.ModelProto:
    """SegNet: the indices of MaxPool go straight to MaxUnpool, which may be told its output's shape."""
    sizes = {} if size is None else {"size": np.array(size)}
    model = between_convs(
        make_node("MaxPool", ["a"], ["p", "indices"], kernel_shape=[2, 2], strides=[2, 2]),
        make_node("Relu", ["p"], ["r"]),
        make_node("MaxUnpool", ["r", "indices", *sizes], ["b"], kernel_shape=[2, 2], strides=[2, 2]),
        weights=sizes,
    )
    model.graph.output[0].CopyFrom(make_tensor_value_info("out", onnx.TensorProto.FLOAT, [1, 3, None, None]))
    return model


def test_unpooling_counts_anew() -> None:
    assert units(assert_prunes_exactly(unpool_model(None))) == {"w1:0": CHANNELS}


def test_the_shape_given_to_unpooling_follows() -> None:
    """onnx does not infer a shape that is given; it is measured."""
    model, measured = unpool_model([1, 4, 8, 8]), {"b": (1, 4, 8, 8)}
    assert units(assert_prunes_exactly(model, measured=measured)) == {"w1:0": CHANNELS}
    assert array(pruned(model, {"w1:0": [1, 3]}, measured=measured), "size").tolist() == [1, 2, 8, 8]


def test_unpooling_to_another_shape_is_left_alone() -> None:
    coupling = analyse(unpool_model([1, 4, 9, 9]), measured={"b": (1, 4, 9, 9)})
    assert units(coupling) == {}
    (why,) = {r.why for r in coupling.refusals if r.tensor == "w2" and r.axis == 1}
    assert why == "its output has another shape than what was pooled, so its indices count otherwise [b:1]"


def global_model(op: str, opset: int = 17, **attrs: Any) -> onnx.ModelProto:
    """x [2, 5] -> 12 columns, read as 3 channels of 4 places -> pooled -> a projection of the 3 channels."""
    nodes = [
        make_node("MatMul", ["x", "w1"], ["a"]),
        make_node("Reshape", ["a", "by_channel"], ["b"]),
        make_node(op, ["b"], ["c"], **attrs),
        make_node("Reshape", ["c", "flat"], ["d"]),
        make_node("MatMul", ["d", "w2"], ["out"]),
    ]
    weights = {"w1": [5, 12], "w2": [3, 2], "by_channel": np.array([2, 3, 4]), "flat": np.array([2, -1])}
    return make_model(nodes, {"x": [2, 5]}, ["out"], weights, opset=opset)


COLUMNS = {
    "w1:1": [{"w1:1": [4 * c, 4 * c + 1, 4 * c + 2, 4 * c + 3], "w2:0": [c]} for c in range(3)],
    "w1:1#2": [{"w1:1": [p, 4 + p, 8 + p]} for p in range(4)],
}


@pytest.mark.parametrize(
    ("op", "why"), [("GlobalAveragePool", "a mean is taken over it"), ("GlobalMaxPool", "the maximum is taken over it")]
)  # fmt: skip
@pytest.mark.parametrize("opset", [7, 17, 22])
def test_fewer_places_change_the_statistic_of_a_global_pool(op: str, why: str, opset: int) -> None:
    coupling = assert_prunes_exactly(global_model(op, opset))
    assert units(coupling) == COLUMNS
    assert [(g.exact, g.mixes) for g in coupling.groups] == [(True, ()), (False, (why,))]


def test_a_global_norm_is_a_sum_and_exact() -> None:
    coupling = assert_prunes_exactly(global_model("GlobalLpPool", p=2))
    assert units(coupling) == COLUMNS
    assert [g.exact for g in coupling.groups] == [True, True]


def test_global_pool_of_an_image() -> None:
    model = between_convs(make_node("GlobalAveragePool", ["a"], ["b"]))
    assert units(assert_prunes_exactly(model)) == {"w1:0": CHANNELS}


@pytest.mark.parametrize("opset", [10, 16])
def test_regions_of_interest_share_the_channels(opset: int) -> None:
    model = between_convs(
        make_node("RoiAlign", ["a", "rois", "images"], ["b"], output_height=2, output_width=2),
        opset=opset,
        inputs={"rois": [3, 4]},
        weights={"images": np.zeros(3, np.int64)},
    )
    rois = np.array([[0, 0, 3, 3], [1, 2, 5, 6], [2, 0, 7, 4]], np.float32)
    x = np.random.default_rng(5).normal(size=(1, 2, 8, 8)).astype(np.float32)
    assert units(assert_prunes_exactly(model, feeds={"x": x, "rois": rois})) == {"w1:0": CHANNELS}
    model = between_convs(make_node("MaxRoiPool", ["a", "rois"], ["b"], pooled_shape=[2, 2]), inputs={"rois": [2, 5]})
    rois = np.array([[0, 0, 0, 3, 3], [0, 1, 2, 5, 6]], np.float32)
    assert units(assert_prunes_exactly(model, feeds={"x": x, "rois": rois})) == {"w1:0": CHANNELS}


def test_a_pruned_pool_carries_no_literal() -> None:
    model = between_convs(make_node("MaxPool", ["a"], ["b"], kernel_shape=[2, 2]))
    assert shapes(pruned(model, {"w1:0": [0, 2]})) == {"w1": (2, 2, 1, 1), "w2": (3, 2, 1, 1)}
