"""Which layers are fitted together: parts of which nothing but the output is read elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxprune.analyse import analyse
from onnxprune.edit.prediction import Prediction
from onnxprune.repair.passes import Pruned
from onnxprune.repair.places import places
from onnxprune.repair.sections import sections
from onnxprune.runtime.consumers import consumers_of
from tests.support.models import make_model


def way(*between: str, leaves: Sequence[str] = (), extra: Sequence[onnx.NodeProto] = ()) -> onnx.ModelProto:
    """1x1 convolutions w0, w1, … with the named operators between them."""
    nodes, value = [], "x"
    weights = {}
    for k in range(len(between) + 1):
        nodes.append(helper.make_node("Conv", [value, f"w{k}"], [f"c{k}"], name=f"w{k}"))
        weights[f"w{k}"] = (4, 4, 1, 1)
        if k < len(between):
            nodes.append(helper.make_node(between[k], [f"c{k}"], [f"r{k}"]))
            value = f"r{k}"
    return make_model([*nodes, *extra], {"x": ("n", 4, 5, 5)}, [f"c{len(between)}", *leaves], weights)


def found(model: onnx.ModelProto, longest: int = 3) -> list[list[str]]:
    coupling = analyse(model)
    pruned = Pruned(coupling.view, Prediction(coupling, coupling.removed_classes({})))
    due = sections(coupling, pruned, places(coupling, consumers_of(coupling, every=True)), longest)
    return [[place.weight for place in section.places] for section in due]


@pytest.mark.parametrize(
    ("between", "expected"),
    [
        ((), []),
        (("Relu",), [["w0", "w1"]]),
        (("Clip", "Relu"), [["w0", "w1", "w2"]]),
        (("Relu",) * 3, [["w0", "w1", "w2"], ["w2", "w3"]]),
        (("Relu",) * 4, [["w0", "w1", "w2"], ["w2", "w3", "w4"]]),
        (("Sin", "Relu"), [["w1", "w2"]]),
        (("Sigmoid", "HardSwish"), [["w0", "w1", "w2"]]),
        (("Identity",), [["w0", "w1"]]),
    ],
)
def test_ways_are_cut_where_they_end(between: tuple[str, ...], expected: list[list[str]]) -> None:
    assert found(way(*between)) == expected


def test_what_someone_else_reads_ends_a_stack() -> None:
    assert found(way("Relu", "Relu", leaves=["r0"])) == [["w1", "w2"]]
    twice = way("Relu", "Relu", leaves=["t"], extra=[helper.make_node("Neg", ["r1"], ["t"])])
    assert found(twice) == [["w0", "w1"]]


def residual(blocks: int, *, project: bool = False, side: bool = False) -> onnx.ModelProto:
    """A stem and blocks of two layers around a stream, then a head; `project`: with a layer in each shortcut, written
    behind the block; `side`: the first block's output leaves the model, too.
    """
    nodes = [helper.make_node("Conv", ["x", "stem"], ["s"], name="stem"), helper.make_node("Relu", ["s"], ["v0"])]
    weights = {"stem": (4, 4, 1, 1), "head": (4, 4, 1, 1)}
    for k in range(blocks):
        nodes += [
            helper.make_node("Conv", [f"v{k}", f"a{k}"], [f"c{k}"], name=f"a{k}"),
            helper.make_node("Relu", [f"c{k}"], [f"r{k}"]),
            helper.make_node("Conv", [f"r{k}", f"b{k}"], [f"d{k}"], name=f"b{k}"),
        ]
        weights |= {f"a{k}": (4, 4, 1, 1), f"b{k}": (4, 4, 1, 1)}
        if project:
            nodes.append(helper.make_node("Conv", [f"v{k}", f"p{k}"], [f"q{k}"], name=f"p{k}"))
            weights |= {f"p{k}": (4, 4, 1, 1)}
        nodes += [
            helper.make_node("Add", [f"d{k}", f"q{k}" if project else f"v{k}"], [f"t{k}"]),
            helper.make_node("Relu", [f"t{k}"], [f"v{k + 1}"]),
        ]
    nodes.append(helper.make_node("Conv", [f"v{blocks}", "head"], ["y"], name="head"))
    return make_model(nodes, {"x": ("n", 4, 5, 5)}, ["y", *(["v1"] if side else [])], weights)


def test_residual_blocks_are_taken_whole() -> None:
    # what comes out behind the stem is read by a layer and by a sum: no section ends between them
    assert found(residual(2), 3) == [["stem", "a0", "b0"], ["a1", "b1", "head"]]
    assert found(residual(2), 5) == [["stem", "a0", "b0", "a1", "b1"], ["a1", "b1", "head"]]
    assert found(residual(3), 6) == [["stem", "a0", "b0", "a1", "b1"], ["a1", "b1", "a2", "b2", "head"]]
    assert found(residual(2), 9) == [["stem", "a0", "b0", "a1", "b1", "head"]]


@pytest.mark.parametrize("behind", ["BatchNormalization", "Mul"])
def test_what_stands_between_a_layer_and_its_sum(behind: str) -> None:
    """A normalisation is followed; a product with a vector is not, and the section ends in front of it."""
    model = residual(1)
    nodes = list(model.graph.node)
    at = next(number for number, node in enumerate(nodes) if node.name == "b0")
    nodes[at].output[0] = "raw"
    one = [4] if behind == "BatchNormalization" else [1, 4, 1, 1]
    more = ["scale", "shift", "mean", "variance"] if behind == "BatchNormalization" else ["scale"]
    nodes.insert(at + 1, helper.make_node(behind, ["raw", *more], ["d0"]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    ones = [onnx.numpy_helper.from_array(np.ones(one, np.float32), name) for name in more]
    model.graph.initializer.extend(ones)
    expected = [["stem", "a0", "b0", "head"]] if behind == "BatchNormalization" else [["a0", "b0"]]
    assert found(model, 9) == expected


def test_a_layer_in_a_shortcut_belongs_to_the_block() -> None:
    assert found(residual(1, project=True), 5) == [["stem", "a0", "b0", "p0", "head"]]
    assert found(residual(2, project=True), 4) == [["stem", "a0", "b0", "p0"], ["a1", "b1", "p1", "head"]]


def test_what_leaves_the_model_is_a_border() -> None:
    assert found(residual(2, side=True), 9) == [["stem", "a0", "b0"], ["a1", "b1", "head"]]


def test_a_value_from_elsewhere_is_read_as_it_is() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c0"], name="w0"),
        helper.make_node("Sin", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], name="w1"),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="w2"),
        helper.make_node("Add", ["c2", "r0"], ["a"]),
        helper.make_node("Relu", ["a"], ["r2"]),
        helper.make_node("Conv", ["r2", "w3"], ["y"], name="w3"),
    ]
    model = make_model(nodes, {"x": ("n", 4, 5, 5)}, ["y"], {f"w{k}": (4, 4, 1, 1) for k in range(4)})
    assert found(model, 9) == [["w1", "w2", "w3"]]


def test_what_clips_to_a_computed_bound_is_a_border() -> None:
    model = way("Relu", "Relu")
    model.graph.node[3].CopyFrom(helper.make_node("Clip", ["c1", "low"], ["r1"]))
    model.graph.node.insert(0, helper.make_node("ReduceMin", ["x"], ["low"], keepdims=0))
    assert found(model) == [["w0", "w1"]]


def test_a_pad_with_other_numbers_than_zero_is_a_border() -> None:
    for value, expected in ((0.0, [["w0", "w1"]]), (1.0, []), (1000.0, [])):
        nodes = [
            helper.make_node("Conv", ["x", "w0"], ["c"], name="w0"),
            helper.make_node("Pad", ["c", "pads", "value"], ["p"]),
            helper.make_node("Conv", ["p", "w1"], ["y"], name="w1"),
        ]
        weights = {"w0": (4, 4, 1, 1), "w1": (4, 4, 1, 1), "value": np.asarray(value, np.float32)}
        weights["pads"] = np.asarray([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
        model = make_model(nodes, {"x": ("n", 4, 5, 5)}, ["y"], weights)
        coupling = analyse(model)
        pruned = Pruned(coupling.view, Prediction(coupling, coupling.removed_classes({})))
        due = sections(coupling, pruned, places(coupling, consumers_of(coupling, every=True)), 3)
        whole = [section for section in due if section.program([(4, 5, 5)]) is not None]
        assert [[place.weight for place in section.places] for section in whole] == expected


def test_a_transposed_convolution_is_in_none() -> None:
    model = way("Relu")
    model.graph.node[2].op_type = "ConvTranspose"
    assert found(model) == []
