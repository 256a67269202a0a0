"""Steps over whole maps: what ONNX Runtime gives, and how it moves with the weights."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxprune.analyse import analyse
from onnxprune.coupling.coupling import Coupling
from onnxprune.edit.prediction import Prediction
from onnxprune.repair.passes import Pruned
from onnxprune.repair.places import places
from onnxprune.repair.program import Program, Weights
from onnxprune.repair.sections import Section, sections
from onnxprune.runtime.consumers import consumers_of
from tests.support.models import make_model
from tests.support.oracle import run
from tests.support.repairing import normal


def blocks() -> onnx.ModelProto:
    """3x3, Relu6; a block around 4 channels; one with stride 2, whose shortcut is sliced and padded to 6 channels."""
    nodes = [
        helper.make_node("Conv", ["x", "a", "ab"], ["h"], name="a", pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["h", "zero", "six"], ["r"]),
        helper.make_node("Conv", ["r", "b"], ["g"], name="b", pads=[1, 1, 1, 1], group=4),
        helper.make_node("Relu", ["g"], ["gr"]),
        helper.make_node("Conv", ["gr", "c", "cb"], ["s"], name="c"),
        helper.make_node("Add", ["s", "r"], ["t"]),
        helper.make_node("Conv", ["t", "d"], ["u"], name="d", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["u"], ["ur"]),
        helper.make_node("Conv", ["ur", "e", "eb"], ["v"], name="e"),
        helper.make_node("Slice", ["t", "begin", "far", "axes", "twos"], ["half"]),
        helper.make_node("Pad", ["half", "pads"], ["wide"]),
        helper.make_node("Add", ["v", "wide"], ["w"]),
        helper.make_node("Relu", ["w"], ["z"]),
        helper.make_node("Conv", ["z", "f"], ["y"], name="f"),
    ]
    integers = {"begin": [0, 0], "far": [99, 99], "axes": [2, 3], "twos": [2, 2], "pads": [0, 1, 0, 0, 0, 1, 0, 0]}
    weights = {
        "a": (4, 3, 3, 3), "ab": (4,), "b": (4, 1, 3, 3), "c": (4, 4, 1, 1), "cb": (4,), "d": (5, 4, 3, 3),
        "e": (6, 5, 1, 1), "eb": (6,), "f": (3, 6, 1, 1),
        "zero": np.asarray(0, np.float32), "six": np.asarray(6, np.float32),
        **{name: np.asarray(value, np.int64) for name, value in integers.items()},
    }  # fmt: skip
    return make_model(nodes, {"x": ("n", 3, 6, 8)}, ["y", "w"], weights)


def whole(model: onnx.ModelProto) -> tuple[Coupling, Pruned, Section]:
    """The section from the first layer on to `w`, which leaves the model, too."""
    coupling = analyse(model)
    pruned = Pruned(coupling.view, Prediction(coupling, coupling.removed_classes({})))
    found = sections(coupling, pruned, places(coupling, consumers_of(coupling, every=True)), 8)
    return coupling, pruned, found[0]


@pytest.fixture(scope="module")
def case() -> tuple[Coupling, Program, Weights]:
    coupling, pruned, section = whole(blocks())
    assert [place.weight for place in section.places] == ["a", "b", "c", "d", "e"]
    assert section.reads == ("x",)
    program = section.program([(3, 6, 8)])
    assert program is not None
    weights = [part.astype(np.float32) for place in section.places for part in pruned.weights(place)]
    return coupling, program, weights


def test_it_gives_what_onnx_runtime_gives(case: tuple[Coupling, Program, Weights]) -> None:
    coupling, program, weights = case
    x = normal(5, 3, 6, 8)
    expected = run(coupling.view.model, {"x": x})[1]
    found, _ = program.run([np.moveaxis(x, 0, -1)], weights)
    np.testing.assert_allclose(np.moveaxis(found, -1, 0), expected, atol=1e-4)


def assert_pull_is_the_derivative(program: Program, weights: Weights, x: np.ndarray, by: float) -> None:
    """What a pull at the output gives for the weights is how much its product with the output moves with them."""
    small = np.float32(by)
    _, kept = program.run([x], weights)
    for number, weight in enumerate(weights):  # each array alone, so that none hides behind another
        change = normal(*weight.shape, seed=20 + number)
        moved = [[*weights[:number], weight + sign * small * change, *weights[number + 1 :]] for sign in (1, -1)]
        there, back = (program.run([x], tried)[0].astype(np.float64) for tried in moved)
        pull = (there - back) / (2 * small)
        found = [np.zeros_like(w) for w in weights]
        program.pull(kept, weights, pull.astype(np.float32), found)
        assert float((found[number] * change).sum(dtype=np.float64)) == pytest.approx(float((pull**2).sum()), rel=0.01)


def test_pull_is_the_derivative(case: tuple[Coupling, Program, Weights]) -> None:
    _, program, weights = case
    assert_pull_is_the_derivative(program, weights, normal(3, 6, 8, 40, seed=3), 1e-3)


def test_work_is_counted(case: tuple[Coupling, Program, Weights]) -> None:
    _, program, _ = case
    assert program.work == 48 * (27 * 4 + 9 * 4 + 4 * 4) + 12 * (36 * 5 + 5 * 6)


def gates() -> onnx.ModelProto:
    """GELU as exporters write it, SiLU, a BatchNormalization; sums, differences, products, quotients with a number."""
    nodes = [
        helper.make_node("Conv", ["x", "a", "ab"], ["h"], name="a", pads=[1, 1, 1, 1]),
        helper.make_node("Div", ["h", "root"], ["h1"]),
        helper.make_node("Erf", ["h1"], ["h2"]),
        helper.make_node("Add", ["h2", "one"], ["h3"]),
        helper.make_node("Mul", ["h", "h3"], ["h4"]),
        helper.make_node("Mul", ["half", "h4"], ["r"]),
        helper.make_node("Conv", ["r", "b"], ["g"], name="b"),
        helper.make_node("Sigmoid", ["g"], ["g1"]),
        helper.make_node("Mul", ["g", "g1"], ["g0"]),
        helper.make_node("BatchNormalization", ["g0", "ns", "nb", "nm", "nv"], ["g2"], epsilon=0.01),
        helper.make_node("Sub", ["one", "g2"], ["g3"]),
        helper.make_node("Sub", ["g3", "half"], ["g4"]),
        helper.make_node("Conv", ["g4", "c"], ["w"], name="c"),
    ]
    weights = {
        "a": (4, 3, 3, 3), "ab": (4,), "b": (4, 4, 1, 1), "c": (2, 4, 1, 1), "root": np.asarray(2**0.5, np.float32),
        "one": np.asarray(1, np.float32), "half": np.asarray(0.5, np.float32),
        "ns": (4,), "nb": (4,), "nm": (4,), "nv": np.float32([0.5, 1, 2, 3]),
    }  # fmt: skip
    return make_model(nodes, {"x": ("n", 3, 6, 8)}, ["w"], weights)


def test_activations_are_followed() -> None:
    coupling, pruned, section = whole(gates())
    assert [place.weight for place in section.places] == ["a", "b", "c"]
    program = section.program([(3, 6, 8)])
    assert program is not None
    weights = [part.astype(np.float32) for place in section.places for part in pruned.weights(place)]
    x = normal(5, 3, 6, 8)
    found, _ = program.run([np.moveaxis(x, 0, -1)], weights)
    np.testing.assert_allclose(np.moveaxis(found, -1, 0), run(coupling.view.model, {"x": x})[0], atol=1e-4)
    assert_pull_is_the_derivative(program, weights, np.moveaxis(x, 0, -1), 1e-2)


def test_a_quotient_of_one_number_by_a_value_is_not() -> None:
    model = gates()
    model.graph.node[1].CopyFrom(helper.make_node("Div", ["root", "h"], ["h1"]))
    coupling = analyse(model)
    pruned = Pruned(coupling.view, Prediction(coupling, coupling.removed_classes({})))
    found = sections(coupling, pruned, places(coupling, consumers_of(coupling, every=True)), 8)
    assert [[place.weight for place in section.places] for section in found] == [["b", "c"]]
