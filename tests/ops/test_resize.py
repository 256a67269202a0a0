"""Resampling: channels with scale 1 are prunable, and sizes that the node is given follow them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx.helper import make_node, make_tensor_value_info

from onnxprune.analyse import analyse
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import array, attributes, pruned

CHANNELS = [{"w1:0": [i], "w2:1": [i]} for i in range(4)]
TWICE = np.array([1, 1, 2, 2], np.float32)
HALF = np.array([1, 1, 0.5, 0.5], np.float32)


def between_convs(*nodes: onnx.NodeProto, opset: int = 18, **options: Any) -> onnx.ModelProto:
    """x [1, 2, 4, 6] -> Conv to 4 channels `a` -> `nodes` -> `b` -> Conv of 1x1 to 3 channels."""
    weights = {"w1": [4, 2, 1, 1], "w2": [3, 4, 1, 1], **options.pop("weights", {})}
    chain = [make_node("Conv", ["x", "w1"], ["a"]), *nodes, make_node("Conv", ["b", "w2"], ["out"])]
    inputs = {"x": [1, 2, 4, 6], **options.pop("inputs", {})}
    return make_model(chain, inputs, ["out"], weights, opset=opset, **options)


@pytest.mark.parametrize(
    ("opset", "inputs", "weights", "attrs"),
    [
        (10, ["s"], {"s": TWICE}, {"mode": "linear"}),
        (11, ["r", "s"], {"s": TWICE, "r": np.empty(0, np.float32)}, {"mode": "nearest"}),
        (13, ["", "s"], {"s": HALF}, {"mode": "linear", "coordinate_transformation_mode": "align_corners"}),
        (13, ["", "s"], {"s": TWICE}, {"mode": "cubic", "coordinate_transformation_mode": "pytorch_half_pixel"}),
        (18, ["", "s"], {"s": HALF}, {"mode": "linear", "antialias": 1}),
        (18, ["", "s"], {"s": TWICE[2:]}, {"mode": "linear", "axes": [2, 3]}),
        (19, ["", "s"], {"s": TWICE}, {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}),
    ],
)  # fmt: skip
def test_scales(opset: int, inputs: list[str], weights: dict[str, np.ndarray], attrs: dict[str, Any]) -> None:
    model = between_convs(make_node("Resize", ["a", *inputs], ["b"], **attrs), opset=opset, weights=weights)
    assert units(assert_prunes_exactly(model)) == {"w1:0": CHANNELS}
    after = pruned(model, {"w1:0": [0, 3]})
    for name, value in weights.items():
        assert np.array_equal(array(after, name), value)


@pytest.mark.parametrize(
    ("opset", "sizes", "after", "attrs"),
    [
        (11, [1, 4, 8, 9], [1, 3, 8, 9], {"mode": "nearest"}),
        (13, [1, 4, 7, 7], [1, 3, 7, 7], {"mode": "linear"}),
        (18, [4, 8, 12], [3, 8, 12], {"mode": "nearest", "axes": [1, 2, 3]}),
        (18, [9, 8], [9, 8], {"mode": "linear", "axes": [-1, -2]}),
        (18, [8, 30], [8, 30], {"mode": "linear", "axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"}),
    ],
)
def test_sizes(opset: int, sizes: list[int], after: list[int], attrs: dict[str, Any]) -> None:
    roi = ["r"] if opset < 13 else [""]
    weights = {"sizes": np.array(sizes)} | ({"r": np.empty(0, np.float32)} if opset < 13 else {})
    scales = ["r"] if opset < 13 else [""]
    node = make_node("Resize", ["a", *roi, *scales, "sizes"], ["b"], **attrs)
    model = between_convs(node, opset=opset, weights=weights)
    assert units(assert_prunes_exactly(model)) == {"w1:0": CHANNELS}
    assert array(pruned(model, {"w1:0": [0, 1, 3]}), "sizes").tolist() == after


def test_sizes_computed_from_shapes_follow_by_themselves() -> None:
    """As exported: batch and channels from x's own Shape, height and width written out; both batch and size vary."""
    nodes = [
        make_node("Shape", ["a"], ["shape"]),
        make_node("Slice", ["shape", "zero", "two", "zero"], ["front"]),
        make_node("Slice", ["shape", "two", "four", "zero"], ["back"]),
        make_node("Mul", ["back", "two"], ["twice"]),
        make_node("Concat", ["front", "twice"], ["sizes"], axis=0),
        make_node("Resize", ["a", "", "", "sizes"], ["b"], mode="linear"),
    ]
    weights = {"zero": np.array([0]), "two": np.array([2]), "four": np.array([4])}
    model = between_convs(*nodes, inputs={"x": ["batch", 2, "height", "width"]}, weights=weights)
    coupling = assert_prunes_exactly(model, bind={"batch": 2, "height": 4, "width": 6})
    assert units(coupling) == {"w1:0": CHANNELS}
    after = pruned(model, {"w1:0": [0, 1]}, bind={"batch": 2, "height": 4, "width": 6})
    assert [n.SerializeToString() for n in after.graph.node] == [n.SerializeToString() for n in model.graph.node]


@pytest.mark.parametrize(
    ("inputs", "weights", "attrs"),
    [
        pytest.param(["", "s"], {"s": np.array([1, 2, 1, 1], np.float32)}, {}, id="scaled channels"),
        pytest.param(
            ["", "", "z"], {"z": np.array([4, 4])}, {"axes": [1, 2], "keep_aspect_ratio_policy": "not_larger"},
            id="one scale for channels and places",
        ),
        pytest.param(
            ["roi", "s"], {"s": np.ones(4, np.float32), "roi": np.array([0, 0.2, 0, 0, 1, 0.9, 1, 1], np.float32)},
            {"coordinate_transformation_mode": "tf_crop_and_resize", "mode": "linear"}, id="cropped channels",
        ),
    ],
)  # fmt: skip
def test_channels_that_are_resampled_stay(
    inputs: list[str], weights: dict[str, np.ndarray], attrs: dict[str, Any]
) -> None:
    nodes = [
        make_node("Conv", ["x", "w1"], ["a"]),
        make_node("Resize", ["a", *inputs], ["b"], **attrs),
        make_node("GlobalAveragePool", ["b"], ["out"]),
    ]
    model = make_model(nodes, {"x": [1, 2, 4, 6]}, ["out"], {"w1": [4, 2, 1, 1], **weights}, opset=18)
    coupling = analyse(model, allow_io_change=["out"])
    assert units(coupling) == {}
    assert {(r.op, r.why.split(" [")[0]) for r in coupling.refusals if r.tensor == "w1" and r.axis == 0} == {
        ("Resize", "spatial axis")
    }


def test_a_crop_of_places_leaves_channels_alone() -> None:
    weights = {"s": TWICE, "roi": np.array([0, 0, 0.1, 0.2, 1, 1, 0.9, 1], np.float32)}
    attrs = {"coordinate_transformation_mode": "tf_crop_and_resize", "mode": "linear"}
    model = between_convs(make_node("Resize", ["a", "roi", "s"], ["b"], **attrs), weights=weights)
    assert units(analyse(model, measured={"b": (1, 4, 6, 9)})) == {"w1:0": CHANNELS}


def test_scales_from_data_decline() -> None:
    model = between_convs(make_node("Resize", ["a", "", "s"], ["b"]), inputs={"s": [4]})
    model.graph.output[0].CopyFrom(make_tensor_value_info("out", onnx.TensorProto.FLOAT, [1, 3, None, None]))
    coupling = analyse(model, measured={"b": (1, 4, 8, 12)})
    assert units(coupling) == {}
    assert "its scales are computed from data [b:1]" in {r.why for r in coupling.refusals if r.tensor == "w2"}


@pytest.mark.parametrize("opset", [7, 9])
def test_upsample(opset: int) -> None:
    if opset == 7:
        model = between_convs(make_node("Upsample", ["a"], ["b"], scales=[1.0, 1, 2, 2]), opset=7)
    else:
        model = between_convs(make_node("Upsample", ["a", "s"], ["b"]), opset=9, weights={"s": TWICE})
    assert units(assert_prunes_exactly(model)) == {"w1:0": CHANNELS}


def test_upsample_of_opset_1_scales_height_and_width() -> None:
    model = between_convs(make_node("Upsample", ["a"], ["b"], height_scale=2.0, width_scale=2.0), opset=1)
    assert units(analyse(model, measured={"b": (1, 4, 8, 12)})) == {"w1:0": CHANNELS}


@pytest.mark.parametrize(("opset", "mode"), [(16, "bilinear"), (20, "linear")])
def test_grid_sample_takes_the_same_places_of_every_channel(opset: int, mode: str) -> None:
    model = between_convs(
        make_node("GridSample", ["a", "grid"], ["b"], mode=mode), opset=opset, inputs={"grid": [1, 3, 5, 2]}
    )
    assert units(assert_prunes_exactly(model)) == {"w1:0": CHANNELS}


def test_affine_grid_of_a_spatial_transformer() -> None:
    nodes = [
        make_node("AffineGrid", ["theta", "size"], ["grid"]),
        make_node("GridSample", ["a", "grid"], ["b"]),
    ]
    weights = {"size": np.array([1, 4, 3, 5]), "theta": [1, 2, 3]}
    model = between_convs(*nodes, opset=20, weights=weights)
    coupling = assert_prunes_exactly(model)
    assert units(coupling) == {"w1:0": CHANNELS}
    assert {(r.tensor, r.axis, r.why) for r in coupling.refusals if r.op == "AffineGrid"} == {
        ("theta", 1, "coordinates of places to sample at"),
        ("theta", 2, "coordinates of places to sample at"),
    }


@pytest.mark.parametrize(
    ("shape", "attrs", "after"),
    [
        ([4, 3, 8], {"axes": [1, 2, 3]}, [2, 3, 8]),
        ([3, 8], {"axes": [-2, -1]}, [3, 8]),
        ([1, 4, 9, 3], {}, [1, 2, 9, 3]),
    ],
)
def test_center_crop_pad(shape: list[int], attrs: dict[str, Any], after: list[int]) -> None:
    node = make_node("CenterCropPad", ["a", "shape"], ["b"], **attrs)
    model = between_convs(node, weights={"shape": np.array(shape)})
    assert units(assert_prunes_exactly(model)) == {"w1:0": CHANNELS}
    assert array(pruned(model, {"w1:0": [1, 3]}), "shape").tolist() == after


def test_a_centered_crop_of_channels_stays() -> None:
    nodes = [
        make_node("Conv", ["x", "w1"], ["a"]),
        make_node("CenterCropPad", ["a", "shape"], ["b"], axes=[1]),
        make_node("Conv", ["b", "w2"], ["out"]),
    ]
    weights = {"w1": [4, 2, 1, 1], "w2": [3, 2, 1, 1], "shape": np.array([2])}
    assert units(analyse(make_model(nodes, {"x": [1, 2, 4, 4]}, ["out"], weights, opset=18))) == {}


def test_image_scaler_has_a_bias_per_channel() -> None:
    node = make_node("ImageScaler", ["a"], ["b"], bias=[0.5, 1.5, 2.5, 3.5], scale=2.0)
    model = between_convs(node, opset=8)
    measured = {"b": (1, 4, 4, 6), "out": (1, 3, 4, 6)}
    assert units(analyse(model, measured=measured)) == {"w1:0": CHANNELS}
    after = pruned(model, {"w1:0": [0, 2]}, measured=measured)
    assert attributes(after, "ImageScaler") == {"bias": [0.5, 2.5], "scale": 2.0}
