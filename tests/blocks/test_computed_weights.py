"""Weights that are computed in the graph: standardised (NFNet), normalised, scaled by a learned mixture.

Statistics over them are those of the dense model, so that removing an input of a convolution is exact.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from tests.support.balanced import assert_changes_places, members
from tests.support.literals import constant, ops
from tests.support.models import units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import pruned, shapes
from tests.support.sandwich import between_convs

WIDTH, READS = 6, 5


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


def mean_and_variance(source: str, axes: str, keepdims: int = 0) -> list[onnx.NodeProto]:
    """Mean and variance of `source` over `axes`, as torch's exporters spell torch.nn.functional.batch_norm."""
    return [
        make_node("ReduceMean", [source, axes], ["mean"], keepdims=keepdims),
        make_node("ReduceMean", [source, axes], ["middle"], keepdims=1),
        make_node("Sub", [source, "middle"], ["apart"]),
        make_node("Mul", ["apart", "apart"], ["squares"]),
        make_node("ReduceMean", ["squares", axes], ["variance"], keepdims=keepdims),
    ]


def dynamo_spelling() -> onnx.ModelProto:
    """The weight [5, 6, 1, 1] as rows [1, 5, 6], normalised by inference with the rows' own statistics."""
    nodes = [
        make_node("Reshape", ["v", "rows"], ["view"]),
        *mean_and_variance("view", "axes"),
        make_node("BatchNormalization", ["view", "gain", "zeros", "mean", "variance"], ["standard"]),
        make_node("Reshape", ["standard", "kernel"], ["wg"]),
        make_node("Conv", ["h", "wg", "bg"], ["y"]),
    ]
    weights = {
        "v": [READS, WIDTH, 1, 1], "rows": ints(1, READS, -1), "axes": ints(0, 2), "gain": [READS], "bg": [READS],
        "zeros": np.zeros(READS, np.float32), "kernel": ints(READS, WIDTH, 1, 1),
    }  # fmt: skip
    return between_convs(nodes, weights, width=WIDTH, reads=READS, opset=18)


def torchscript_spelling() -> onnx.ModelProto:
    """The rows are stored, and once more transposed for the statistics; normalised as in training."""
    rng = np.random.default_rng(3)
    rows = (rng.normal(size=(1, READS, WIDTH)) + 0.5).astype(np.float32)
    nodes = [
        *mean_and_variance("columns", "axes"),
        make_node(
            "BatchNormalization", ["view", "gain", "zeros", "mean", "variance"], ["standard", "m", "s"],
            training_mode=1, momentum=1.0,
        ),
        make_node("Reshape", ["standard", "kernel"], ["wg"]),
        make_node("Conv", ["h", "wg", "bg"], ["y"]),
    ]  # fmt: skip
    weights = {
        "view": rows, "columns": np.ascontiguousarray(rows.transpose(0, 2, 1)), "axes": ints(0, 1), "gain": [READS],
        "bg": [READS], "zeros": np.zeros(READS, np.float32), "kernel": ints(READS, WIDTH, 1, 1),
    }  # fmt: skip
    return between_convs(nodes, weights, width=WIDTH, reads=READS, opset=18)


@pytest.mark.parametrize("model", [dynamo_spelling(), torchscript_spelling()], ids=["dynamo", "torchscript"])
def test_standardised_convolutions_are_exact(model: onnx.ModelProto) -> None:
    coupling = assert_prunes_exactly(model)
    assert [(g.size, g.exact) for g in coupling.groups] == [(WIDTH, True), (READS, True)]


def test_units_of_a_standardised_convolution() -> None:
    read, made = units(analyse(dynamo_spelling())).values()
    assert read == [{"w1:0": [i], "b1:0": [i], "v:1": [i]} for i in range(WIDTH)]
    assert made == [{"v:0": [i], "gain:0": [i], "zeros:0": [i], "bg:0": [i], "w2:1": [i]} for i in range(READS)]


def test_a_copy_for_the_statistics_is_no_unit_and_goes() -> None:
    model = torchscript_spelling()
    coupling = analyse(model)
    assert "columns:1" not in {str(g.axis) for g in coupling.groups}
    assert {r.why for r in coupling.refusals if (r.tensor, r.axis) == ("columns", 1)} == {
        "a statistic is all that is taken of it, and stays as it is"
    }
    edited = pruned(model, {"w1:0": [0, 2, 5]})
    assert "columns" not in shapes(edited)
    assert ops(edited) == ["Conv", "Identity", "Reshape", "Conv", "Conv"]


def test_statistics_are_those_of_the_dense_model() -> None:
    model = dynamo_spelling()
    rows = constant(model, "v").reshape(READS, WIDTH)
    edited = pruned(model, {"w1:0": [0, 2, 5]})
    assert shapes(edited)["v"] == (READS, 3, 1, 1)
    mean, variance = (
        constant(edited, next(n for n in edited.graph.node if n.output[0] == name).input[0])
        for name in ("mean", "variance")
    )
    np.testing.assert_allclose(mean, rows.mean(1), rtol=1e-6)
    np.testing.assert_allclose(variance, rows.var(1), rtol=1e-5)
    assert ops(edited).count("ReduceMean") == 0
    assert ops(edited).count("Sub") == 0


def test_what_nothing_touches_is_computed_as_before() -> None:
    model = dynamo_spelling()
    (made,) = [g.name for g in analyse(model).groups if g.size == READS]
    edited = pruned(model, {made: [0, 2]})
    assert ops(edited).count("Identity") == 2  # mean and variance have fewer rows: they are stored
    untouched = between_convs([make_node("Relu", ["h"], ["y"])], {"unused": [3]})
    assert "Identity" not in ops(pruned(untouched, {"w1:0": [0]}))


def normalised() -> onnx.ModelProto:
    """Weight normalisation (https://arxiv.org/abs/1602.07868): w = g * v / |v|, the norm over a row."""
    nodes = [
        make_node("ReduceL2", ["v", "axes"], ["norm"], keepdims=1),
        make_node("Div", ["v", "norm"], ["direction"]),
        make_node("Mul", ["direction", "g"], ["wg"]),
        make_node("Conv", ["h", "wg"], ["y"]),
    ]
    weights = {"v": [READS, WIDTH, 1, 1], "g": [READS, 1, 1, 1], "axes": ints(1, 2, 3)}
    return between_convs(nodes, weights, width=WIDTH, reads=READS, opset=18)


def test_weight_normalisation_keeps_its_norm() -> None:
    model = normalised()
    coupling = assert_prunes_exactly(model)
    assert [g.exact for g in coupling.groups] == [True, True]
    edited = pruned(model, {"w1:0": [1, 2]})
    (norm,) = [n for n in edited.graph.node if n.output[0] == "norm"]
    v = constant(model, "v")
    np.testing.assert_allclose(constant(edited, norm.input[0]), np.sqrt((v**2).sum((1, 2, 3), keepdims=True)), 1e-6)


def test_a_learned_mixture_keeps_its_proportions() -> None:
    """softmax(a) over channels scales them: those that stay are not scaled up."""
    nodes = [
        make_node("Softmax", ["a"], ["share"], axis=0),
        make_node("Mul", ["h", "share"], ["y"]),
    ]
    coupling = assert_prunes_exactly(between_convs(nodes, {"a": [WIDTH, 1, 1]}))
    (group,) = coupling.groups
    assert group.exact


def test_a_mean_over_data_stays_a_statistic() -> None:
    nodes = [
        make_node("ReduceMean", ["h", "axes"], ["mean"], keepdims=1),
        make_node("Sub", ["h", "mean"], ["y"]),
    ]
    (group,) = analyse(between_convs(nodes, {"axes": ints(1)}, opset=18)).groups
    assert group.mixes == ("a mean is taken over it",)


def test_members_of_standardised_groups_change_places() -> None:
    """A grouped convolution whose weights are standardised: stored statistics are in the order of the outputs."""
    nodes = [
        make_node("Reshape", ["v", "rows"], ["view"]),
        *mean_and_variance("view", "axes"),
        make_node("BatchNormalization", ["view", "gain", "shift", "mean", "variance"], ["standard"]),
        make_node("Reshape", ["standard", "kernel"], ["wg"]),
        make_node("Conv", ["h", "wg"], ["y"], group=2),
    ]
    weights = {
        "v": [8, 3, 1, 1], "rows": ints(1, 8, -1), "axes": ints(0, 2), "gain": [8], "shift": [8],
        "kernel": ints(8, 3, 1, 1),
    }  # fmt: skip
    coupling = assert_changes_places(between_convs(nodes, weights, width=6, reads=8, opset=18))
    outputs = [[[g * 4 + m] for m in range(4)] for g in range(2)]
    inputs = [[[g * 3 + m] for m in range(3)] for g in range(2)]
    found = members(coupling)
    assert {"v:0", "gain:0", "shift:0", "w2:1"} in [set(axes) for axes in found.values()]
    assert {"w1:0", "b1:0", "v:1 by v:0"} in [set(axes) for axes in found.values()]
    assert [axes["w2:1"] for axes in found.values() if "w2:1" in axes] == [outputs]
    assert [axes["w1:0"] for axes in found.values() if "w1:0" in axes] == [inputs]
