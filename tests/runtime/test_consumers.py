"""A consumer's rows times its matrix is what ONNX Runtime computes, whatever the geometry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxprune.analyse import analyse
from onnxprune.coupling.coupling import Coupling
from onnxprune.runtime.consumers import Consumer, consumers_of, sources_of
from onnxprune.runtime.data import Batch
from onnxprune.runtime.fixed import fixed_value
from onnxprune.runtime.rows import RowReader, Sampling
from onnxprune.runtime.tap import Tap
from tests.support.models import make_model
from tests.support.oracle import random_feeds

ALL = Sampling(positions=None)


def between(
    node: onnx.NodeProto, weight: Sequence[int], channels: int, spatial: Sequence[int], outputs: int, batch: int = 2
) -> Coupling:
    """x -> 1x1 Conv to `channels` -> Relu -> `node` (reads "r", writes "z") -> 1x1 Conv: both ends can be pruned."""
    ones = [1] * len(spatial)
    nodes = [
        helper.make_node("Conv", ["x", "enter"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        node,
        helper.make_node("Conv", ["z", "leave"], ["y"]),
    ]
    weights = {"enter": (channels, 3, *ones), "w": weight, "leave": (2, outputs, *ones)}
    return analyse(make_model(nodes, {"x": (batch, 3, *spatial)}, ["y"], weights))


def rows_and_output(coupling: Coupling, op: str, sampling: Sampling = ALL) -> tuple[Consumer, np.ndarray, np.ndarray]:
    """Of the only consumer of that operator: rows times matrix, and its output at the same places."""
    (consumer,) = [c for c in consumers_of(coupling) if c.op == op and c.weight == "w"]
    assert consumer.output is not None
    feeds = random_feeds(coupling)
    tap = Tap(coupling.view, [consumer.source.tensor, consumer.output[0]])
    values = tap.values(feeds, "samples")
    batch = Batch(feeds, 0, len(next(iter(feeds.values()))))
    weight = fixed_value(coupling.view, "w")
    assert weight is not None
    matrix = consumer.matrix(weight)
    assert matrix.shape[:2] == (consumer.groups, consumer.features)
    np.testing.assert_array_equal(consumer.from_matrix(matrix, weight), weight)
    pairs = list(RowReader(consumer, sampling).read(values, batch, None, values[consumer.output[0]]))
    rows = np.concatenate([r for _, (r, _) in pairs], axis=1)
    target = np.concatenate([t for _, (_, t) in pairs], axis=1)
    return consumer, consumer.gain * rows @ matrix, target


CONVOLUTIONS: dict[str, tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]]] = {
    "plain": ({}, (4, 6, 3, 3), (7, 8)),
    "pads and strides": ({"pads": [1, 0, 2, 1], "strides": [2, 3]}, (4, 6, 3, 2), (7, 8)),
    "dilations": ({"dilations": [2, 1], "pads": [2, 2, 2, 2]}, (4, 6, 3, 3), (7, 8)),
    "groups": ({"group": 3, "pads": [1, 1, 1, 1]}, (9, 2, 3, 3), (5, 4)),
    "depthwise": ({"group": 6, "pads": [1, 1, 1, 1]}, (6, 1, 3, 3), (5, 4)),
    "same upper": ({"auto_pad": "SAME_UPPER", "strides": [2, 2]}, (4, 6, 3, 3), (6, 7)),
    "same lower": ({"auto_pad": "SAME_LOWER", "strides": [2, 2]}, (4, 6, 3, 4), (6, 7)),
    "valid": ({"auto_pad": "VALID", "strides": [2, 2]}, (4, 6, 3, 3), (6, 7)),
    "one dimension": ({"pads": [2, 1]}, (4, 6, 4), (9,)),
    "three dimensions": ({"pads": [1, 0, 1, 0, 1, 1]}, (4, 6, 2, 2, 3), (3, 4, 5)),
    "point": ({}, (4, 6, 1, 1), (3, 4)),
    "point with strides": ({"strides": [2, 2]}, (4, 6, 1, 1), (5, 4)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str) -> None:
    attrs, weight, spatial = CONVOLUTIONS[name]
    node = helper.make_node("Conv", ["r", "w"], ["z"], **attrs)
    _, product, output = rows_and_output(between(node, weight, 6, spatial, weight[0]), "Conv")
    np.testing.assert_allclose(product, output, atol=2e-5)
    assert np.abs(output).max() > 1


TRANSPOSED: dict[str, tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]]] = {
    "plain": ({}, (6, 4, 3, 3), (4, 5)),
    "strides": ({"strides": [2, 3], "pads": [1, 0, 1, 2]}, (6, 4, 3, 4), (4, 5)),
    "output padding": ({"strides": [2, 2], "output_padding": [1, 1], "pads": [1, 1, 1, 1]}, (6, 4, 3, 3), (4, 5)),
    "dilations": ({"dilations": [2, 1]}, (6, 4, 2, 3), (4, 5)),
    "groups": ({"group": 3, "strides": [2, 2]}, (6, 3, 2, 2), (4, 5)),
    "output shape": ({"output_shape": [9, 10], "strides": [2, 2]}, (6, 4, 4, 4), (4, 5)),
    "same upper": ({"auto_pad": "SAME_UPPER", "strides": [2, 2]}, (6, 4, 3, 3), (4, 5)),
    "same lower": ({"auto_pad": "SAME_LOWER", "strides": [2, 2]}, (6, 4, 3, 3), (4, 5)),
    "one dimension": ({"strides": [3]}, (6, 4, 5), (6,)),
}


@pytest.mark.parametrize("name", TRANSPOSED)
def test_transposed_convolutions(name: str) -> None:
    attrs, weight, spatial = TRANSPOSED[name]
    node = helper.make_node("ConvTranspose", ["r", "w"], ["z"], **attrs)
    outputs = weight[1] * attrs.get("group", 1)
    _, product, output = rows_and_output(between(node, weight, 6, spatial, outputs), "ConvTranspose")
    np.testing.assert_allclose(product, output, atol=2e-5)


def products(node: onnx.NodeProto, weight: Sequence[int], shapes: Mapping[str, Sequence[int]]) -> Coupling:
    """x -> MatMul to 6 -> Relu -> `node` (reads "r", "w", writes "z")."""
    nodes = [helper.make_node("MatMul", ["x", "enter"], ["c"]), helper.make_node("Relu", ["c"], ["r"]), node]
    return analyse(make_model(nodes, shapes, ["z"], {"enter": (3, 6), "w": weight, "bias": (4,)}))


@pytest.mark.parametrize(
    ("node", "weight", "shape"),
    [
        pytest.param(helper.make_node("MatMul", ["r", "w"], ["z"]), (6, 4), (5, 3), id="MatMul"),
        pytest.param(helper.make_node("MatMul", ["r", "w"], ["z"]), (6, 4), (2, 7, 3), id="MatMul of rank 3"),
        pytest.param(helper.make_node("Gemm", ["r", "w"], ["z"]), (6, 4), (5, 3), id="Gemm"),
        pytest.param(
            helper.make_node("Gemm", ["r", "w"], ["z"], transB=1, alpha=0.5), (4, 6), (5, 3), id="Gemm, turned"
        ),
    ],
)
def test_matrix_products(node: onnx.NodeProto, weight: Sequence[int], shape: Sequence[int]) -> None:
    _, product, output = rows_and_output(products(node, weight, {"x": shape}), node.op_type)
    np.testing.assert_allclose(product, output, atol=2e-5)


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 5)])
def test_weights_on_the_left(shape: tuple[int, ...]) -> None:
    nodes = [
        helper.make_node("MatMul", ["enter", "x"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MatMul", ["w", "r"], ["z"]),
    ]
    coupling = analyse(make_model(nodes, {"x": shape}, ["z"], {"enter": (6, 3), "w": (4, 6)}))
    consumer, product, output = rows_and_output(coupling, "MatMul")
    assert (consumer.position, consumer.source.key) == (1, f"r:{len(shape) - 2}")
    np.testing.assert_allclose(product, output, atol=2e-5)


def test_a_gemm_of_turned_data() -> None:
    nodes = [
        helper.make_node("MatMul", ["enter", "x"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Gemm", ["r", "w"], ["z"], transA=1),
    ]
    coupling = analyse(make_model(nodes, {"x": (3, 5)}, ["z"], {"enter": (6, 3), "w": (6, 4)}))
    consumer, product, output = rows_and_output(coupling, "Gemm")
    assert consumer.source.key == "r:0"
    np.testing.assert_allclose(product, output, atol=2e-5)


def test_drawn_places_are_those_of_the_output() -> None:
    node = helper.make_node("Conv", ["r", "w"], ["z"], pads=[1, 1, 1, 1], strides=[2, 2])
    coupling = between(node, (4, 6, 3, 3), 6, (9, 9), 4, batch=3)
    _, product, output = rows_and_output(coupling, "Conv", Sampling(positions=7, seed=2))
    assert output.shape == (1, 21, 4)
    np.testing.assert_allclose(product, output, atol=2e-5)


def test_places_are_drawn_by_seed_and_sample() -> None:
    drawn = [Sampling(5, seed).draw(sample, 100).tolist() for seed, sample in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert drawn[0] == drawn[3] == sorted(np.random.default_rng([0, 0, 100]).choice(100, 5, replace=False).tolist())
    assert len({str(d) for d in drawn}) == 3
    assert Sampling(5).draw(0, 4).tolist() == [0, 1, 2, 3]
    allowed = np.arange(100) % 10 == 3
    assert set(Sampling(5).draw(0, 100, allowed).tolist()) <= set(range(3, 100, 10))


def test_two_sides_of_data_know_each_other() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "q"], ["a"]),
        helper.make_node("MatMul", ["x", "k"], ["b"]),
        helper.make_node("Transpose", ["b"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["a", "t"], ["z"]),
    ]
    coupling = analyse(make_model(nodes, {"x": (2, 7, 3)}, ["z"], {"q": (3, 4), "k": (3, 4)}))
    (consumer,) = consumers_of(coupling)
    assert (consumer.source.key, consumer.weight, consumer.output) == ("a:2", None, None)
    assert [source.key for source in sources_of((consumer,))] == ["a:2", "t:1"]


def test_an_input_that_cannot_be_pruned_has_no_consumer_and_a_computed_weight_is_found() -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "scale"], ["d"]),
        helper.make_node("Transpose", ["d"], ["w"]),
        helper.make_node("MatMul", ["x", "enter"], ["h"]),
        helper.make_node("MatMul", ["h", "w"], ["y"]),
    ]
    weights = {
        "enter": (3, 4), "q": np.arange(8, dtype=np.int8).reshape(2, 4), "scale": np.asarray(0.5, np.float32),
    }  # fmt: skip
    coupling = analyse(make_model(nodes, {"x": (5, 3)}, ["y"], weights))
    (consumer,) = consumers_of(coupling)
    assert (consumer.weight, consumer.weight_axis, consumer.source.size) == ("w", 0, 4)
    weight = fixed_value(coupling.view, "w")
    assert weight is not None
    assert weight.tolist() == [[0, 2], [0.5, 2.5], [1, 3], [1.5, 3.5]]
    assert consumer.reach(weight, np.abs).tolist() == [2, 3, 4, 5]
    assert fixed_value(coupling.view, "h") is None


@pytest.mark.parametrize(
    ("attrs", "weight", "expected"),
    [
        pytest.param(
            {}, np.arange(12).reshape(2, 2, 3, 1), [0 + 1 + 2 + 6 + 7 + 8, 3 + 4 + 5 + 9 + 10 + 11], id="plain"
        ),
        pytest.param({"group": 2}, np.arange(4).reshape(4, 1, 1, 1), [0 + 1, 2 + 3], id="two outputs a channel"),
    ],
)
def test_the_weights_that_a_channel_meets(attrs: dict[str, int], weight: np.ndarray, expected: list[float]) -> None:
    node = helper.make_node("Conv", ["r", "w"], ["z"], **attrs)
    coupling = between(node, weight.shape, 2, (4, 4), len(weight))
    (consumer,) = [c for c in consumers_of(coupling) if c.weight == "w"]
    assert consumer.reach(weight.astype(np.float32), np.abs).tolist() == expected


def test_quantised_data_is_decoded_with_its_own_scale() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "enter"], ["h"]),
        helper.make_node("QuantizeLinear", ["h", "s", "z"], ["q"]),
        helper.make_node("QLinearMatMul", ["q", "s", "z", "w", "ws", "wz", "ys", "yz"], ["y"]),
    ]
    weights = {
        "enter": (3, 4), "s": np.float32(0.1), "z": np.uint8(128), "w": np.ones((4, 2), np.uint8),
        "ws": np.float32(1), "wz": np.uint8(0), "ys": np.float32(1), "yz": np.uint8(0),
    }  # fmt: skip
    model = make_model(
        nodes, {"x": (5, 3)}, ["y"], {k: v if isinstance(v, tuple) else np.asarray(v) for k, v in weights.items()}
    )
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.UINT8
    coupling = analyse(model)
    (consumer,) = consumers_of(coupling)
    source = consumer.source
    assert (source.tensor, source.zero, source.scale) == ("q", "z", "s")
    feeds = random_feeds(coupling)
    values = Tap(coupling.view, ["q", "h", "z", "s"]).values(feeds, "samples")
    rows = np.concatenate([r[0] for _, (r,) in RowReader(consumer, ALL).read(values, Batch(feeds, 0, 5), None)])
    np.testing.assert_allclose(rows, np.clip(values["h"], -12.8, 12.7), atol=0.0501)


def test_data_that_is_quantised_by_its_own_range_is_read_before_that() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "enter"], ["h"]),
        helper.make_node("DynamicQuantizeLinear", ["h"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w", "z"], ["y"]),
    ]
    model = make_model(nodes, {"x": (5, 3)}, ["y"], {"enter": (3, 4), "w": np.ones((4, 2), np.int8)})
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT32
    (consumer,) = consumers_of(analyse(model))
    source = consumer.source
    assert (consumer.op, source.key, source.zero, source.scale) == ("MatMulInteger", "h:1", None, None)
    assert (consumer.weight, consumer.weight_axis, consumer.output) == ("w", 0, None)
