"""Normalisations: what goes with a channel, where a statistic runs, and equality with the masked model."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node
from onnx.reference import ReferenceEvaluator

from onnxprune.analyse import analyse
from onnxprune.check import mask_classes
from onnxprune.edit import edit
from tests.support.models import units
from tests.support.oracle import NOT_BLIND, TOLERANCE, assert_prunes_exactly, distance, random_feeds
from tests.support.pruned import attributes, pruned, shapes
from tests.support.sandwich import WIDTH, between_convs, between_matmuls, one_by_one, taking

MEAN_AND_VARIANCE = "mean and variance are taken over it"
ONE_TO_SIX = np.arange(1, 7, dtype=np.float32) / 3


def batch_norm(opset: int, *, width: int = WIDTH, outputs: int = 1, **attrs: object) -> onnx.ModelProto:
    node = make_node("BatchNormalization", ["h", "s", "b", "m", "v"], ["y", "rm", "rv", "sm", "sv"][:outputs], **attrs)
    return between_convs([node], {"s": [width], "b": [width], "m": [width], "v": ONE_TO_SIX}, opset=opset)


# -- BatchNormalization ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opset", "attrs"), [(7, {"spatial": 1}), (8, {}), (9, {}), (14, {}), (17, {"training_mode": 0}), (22, {})]
)
def test_batch_norm_takes_its_four_vectors_along(opset: int, attrs: dict[str, int]) -> None:
    coupling = assert_prunes_exactly(batch_norm(opset, **attrs))
    assert units(coupling) == {"w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w2:1", "s:0", "b:0", "m:0", "v:0")}
    assert [g.exact for g in coupling.groups] == [True]


@pytest.mark.parametrize("attrs", [{"consumed_inputs": [0, 0, 0, 1, 1], "is_test": 1}, {"is_test": 1}])
def test_batch_norm_of_the_first_opsets(attrs: dict[str, object]) -> None:
    coupling = analyse(batch_norm(1 if "consumed_inputs" in attrs else 6, **attrs))
    assert units(coupling) == {"w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w2:1", "s:0", "b:0", "m:0", "v:0")}


def test_batch_norm_with_parameters_per_place() -> None:
    node = make_node("BatchNormalization", ["h", "s", "b", "m", "v"], ["y"], spatial=0)
    place = [WIDTH, 4, 5]
    variance = np.random.default_rng(3).uniform(0.5, 2, place).astype(np.float32)
    model = between_convs([node], {"s": place, "b": place, "m": place, "v": variance}, opset=7)
    coupling = assert_prunes_exactly(model)
    assert units(coupling) == {"w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w2:1", "s:0", "b:0", "m:0", "v:0")}


def test_batch_norm_of_rows() -> None:
    nodes = [
        make_node("Reshape", ["h", "flat"], ["r"]),
        make_node("BatchNormalization", ["r", "s", "b", "m", "v"], ["y"]),
    ]
    weights = {"flat": np.array([10, -1]), "s": [WIDTH], "b": [WIDTH], "m": [WIDTH], "v": ONE_TO_SIX}
    coupling = assert_prunes_exactly(between_matmuls(nodes, weights))
    assert [(g.size, g.exact) for g in coupling.groups] == [(WIDTH, True)]


def test_a_channel_has_its_own_statistics_in_training_too() -> None:
    coupling = analyse(batch_norm(15, outputs=3, training_mode=1))
    assert units(coupling) == {"w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w2:1", "s:0", "b:0", "m:0", "v:0")}
    assert [g.exact for g in coupling.groups] == [True]
    removed = coupling.removed_classes({0: [1, 4]})
    feeds = random_feeds(coupling)
    # ONNX Runtime's inference builds have no training mode; onnx's own evaluator has
    dense, masked, cut = (
        ReferenceEvaluator(model.to_proto()).run(None, feeds)
        for model in (coupling.view.model, mask_classes(coupling, removed), edit(coupling, removed).model)
    )
    assert distance(cut, masked) <= TOLERANCE
    assert distance(dense, masked) >= NOT_BLIND


def test_outputs_of_training_that_nobody_reads_do_not_matter() -> None:
    coupling = analyse(batch_norm(7, outputs=5))
    assert units(coupling) == {"w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w2:1", "s:0", "b:0", "m:0", "v:0")}


def test_training_statistics_over_channels_in_the_batch_axis_mix() -> None:
    nodes = [
        make_node("Transpose", ["h"], ["t"], perm=[1, 0, 2, 3]),
        make_node("BatchNormalization", ["t", "s", "b", "m", "v"], ["n", "rm", "rv"], training_mode=1),
        make_node("Transpose", ["n"], ["y"], perm=[1, 0, 2, 3]),
    ]
    two = np.array([1.0, 2.0], np.float32)
    coupling = analyse(between_convs(nodes, {"s": [2], "b": [2], "m": [2], "v": two}))
    assert [(g.name, g.size, g.mixes) for g in coupling.groups] == [("w1:0", WIDTH, (MEAN_AND_VARIANCE,))]


# -- InstanceNormalization and GroupNormalization --------------------------------------------------------------


@pytest.mark.parametrize("opset", [7, 17, 22])
def test_instance_norm_is_exact(opset: int) -> None:
    node = make_node("InstanceNormalization", ["h", "s", "b"], ["y"])
    coupling = assert_prunes_exactly(between_convs([node], {"s": [WIDTH], "b": [WIDTH]}, opset=opset))
    assert units(coupling) == {"w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w2:1", "s:0", "b:0")}
    assert [g.exact for g in coupling.groups] == [True]


def group_norm(opset: int, groups: int, *, width: int = WIDTH) -> onnx.ModelProto:
    node = make_node("GroupNormalization", ["h", "s", "b"], ["y"], num_groups=groups)
    per = groups if opset < 21 else width
    return between_convs([node], {"s": [per], "b": [per]}, width=width, opset=opset)


def test_group_norm_goes_by_group_or_by_member_with_parameters_per_group() -> None:
    coupling = assert_prunes_exactly(group_norm(18, 3))
    assert units(coupling) == {
        "w1:0": [
            {"w1:0": [0, 1], "b1:0": [0, 1], "w2:1": [0, 1], "s:0": [0], "b:0": [0]},
            {"w1:0": [2, 3], "b1:0": [2, 3], "w2:1": [2, 3], "s:0": [1], "b:0": [1]},
            {"w1:0": [4, 5], "b1:0": [4, 5], "w2:1": [4, 5], "s:0": [2], "b:0": [2]},
        ],
        "w1:0#2": [
            {"w1:0": [0, 2, 4], "b1:0": [0, 2, 4], "w2:1": [0, 2, 4]},
            {"w1:0": [1, 3, 5], "b1:0": [1, 3, 5], "w2:1": [1, 3, 5]},
        ],
    }
    assert {g.name: g.exact for g in coupling.groups} == {"w1:0": True, "w1:0#2": False}


def test_group_norm_goes_by_group_or_by_member_with_parameters_per_channel() -> None:
    coupling = assert_prunes_exactly(group_norm(21, 3))
    every = ("w1:0", "b1:0", "w2:1", "s:0", "b:0")
    found = units(coupling)
    by_group = [taking([0, 1], *every), taking([2, 3], *every), taking([4, 5], *every)]
    by_member = [taking([0, 2, 4], *every), taking([1, 3, 5], *every)]
    assert sorted(found.values(), key=len) == [by_member, by_group]
    assert {g.size: g.mixes for g in coupling.groups} == {3: (), 2: (MEAN_AND_VARIANCE,)}


@pytest.mark.parametrize("opset", [18, 21])
def test_num_groups_counts_the_groups_that_stay(opset: int) -> None:
    model = group_norm(opset, 3)
    by_size = {g.size: g.name for g in analyse(model).groups}
    assert attributes(pruned(model, {by_size[3]: [0, 2]}), "GroupNormalization")["num_groups"] == 2
    both = pruned(model, {by_size[3]: [1], by_size[2]: [1]})
    assert attributes(both, "GroupNormalization")["num_groups"] == 1
    assert shapes(both)["w1"] == (1, 3, 1, 1)
    members = pruned(model, {by_size[2]: [1]})
    assert attributes(members, "GroupNormalization")["num_groups"] == 3
    assert shapes(members)["s"] == (3,)


def test_a_single_group_mixes_all_channels() -> None:
    coupling = assert_prunes_exactly(group_norm(21, 1))
    assert [(g.size, g.exact) for g in coupling.groups] == [(WIDTH, False)]


@pytest.mark.parametrize("opset", [18, 21])
def test_a_group_per_channel_is_exact(opset: int) -> None:
    model = group_norm(opset, WIDTH)
    coupling = assert_prunes_exactly(model)
    assert [(g.size, g.exact) for g in coupling.groups] == [(WIDTH, True)]
    assert attributes(pruned(model, {"w1:0": [0, 3, 4]}), "GroupNormalization")["num_groups"] == 3


def test_channels_that_the_groups_do_not_divide_freeze() -> None:
    node = make_node("GroupNormalization", ["h", "s", "b"], ["y"], num_groups=4)
    refusals = analyse(between_convs([node], {"s": [WIDTH], "b": [WIDTH]}, opset=21)).refusals
    why = "an axis of 6 is not the product of (4, 1)"
    assert {r.tensor: r.why for r in refusals if r.axis == 0}["s"] == why


def test_group_norm_spelled_as_torch_spells_it() -> None:
    nodes = [
        make_node("Reshape", ["h", "to_groups"], ["g"]),
        make_node("InstanceNormalization", ["g", "ones", "zeros"], ["n"]),
        make_node("Shape", ["h"], ["shape"]),
        make_node("Reshape", ["n", "shape"], ["c"]),
        make_node("Mul", ["c", "s"], ["scaled"]),
        make_node("Add", ["scaled", "b"], ["y"]),
    ]
    weights = {
        "to_groups": np.array([0, 3, -1]),
        "ones": np.ones(3, np.float32), "zeros": np.zeros(3, np.float32),
        "s": [WIDTH, 1, 1], "b": [WIDTH, 1, 1],
    }  # fmt: skip
    coupling = assert_prunes_exactly(between_convs(nodes, weights))
    channel = ("w1:0", "b1:0", "w2:1", "s:0", "b:0")
    by_group = [{**taking([2 * i, 2 * i + 1], *channel), "ones:0": [i], "zeros:0": [i]} for i in range(3)]
    by_member = [taking([0, 2, 4], *channel), taking([1, 3, 5], *channel)]
    assert sorted(units(coupling).values(), key=len) == [by_member, by_group]
    assert {g.size: g.exact for g in coupling.groups} == {3: True, 2: False}


def test_group_norm_spelled_in_primitives() -> None:
    nodes = [
        make_node("Reshape", ["h", "to_groups"], ["g"]),
        make_node("ReduceMean", ["g"], ["mean"], axes=[2, 3, 4]),
        make_node("Sub", ["g", "mean"], ["centred"]),
        make_node("Pow", ["centred", "two"], ["squares"]),
        make_node("ReduceMean", ["squares"], ["variance"], axes=[2, 3, 4]),
        make_node("Add", ["variance", "epsilon"], ["sum"]),
        make_node("Sqrt", ["sum"], ["deviation"]),
        make_node("Div", ["centred", "deviation"], ["n"]),
        make_node("Reshape", ["n", "back"], ["y"]),
    ]
    weights = {
        "to_groups": np.array([0, 3, 2, 4, 5]), "back": np.array([0, 6, 4, 5]),
        "two": np.array(2, np.float32), "epsilon": np.array(1e-5, np.float32),
    }  # fmt: skip
    coupling = assert_prunes_exactly(between_convs(nodes, weights))
    assert {g.size: g.exact for g in coupling.groups} == {3: True, 2: False}


# -- LayerNormalization and RMSNormalization -------------------------------------------------------------------


@pytest.mark.parametrize("opset", [17, 22])
def test_layer_norm_mixes_what_it_runs_over(opset: int) -> None:
    node = make_node("LayerNormalization", ["h", "s", "b"], ["y"])
    coupling = assert_prunes_exactly(between_matmuls([node], {"s": [WIDTH], "b": [WIDTH]}, opset=opset))
    assert units(coupling) == {"w1:1": one_by_one(WIDTH, "w1:1", "b1:0", "w2:0", "s:0", "b:0")}
    assert [(g.exact, g.mixes) for g in coupling.groups] == [(False, (MEAN_AND_VARIANCE,))]


def test_layer_norm_without_bias_over_two_axes() -> None:
    nodes = [
        make_node("Transpose", ["h"], ["t"], perm=[0, 2, 3, 1]),
        make_node("LayerNormalization", ["t", "s"], ["n"], axis=-2),
        make_node("Transpose", ["n"], ["y"], perm=[0, 3, 1, 2]),
    ]
    coupling = assert_prunes_exactly(between_convs(nodes, {"s": [5, WIDTH]}))
    assert units(coupling) == {"w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w2:1", "s:1")}
    assert [g.exact for g in coupling.groups] == [False]


def test_channels_beside_the_normalised_axes_are_exact_and_so_are_mean_and_deviation() -> None:
    nodes = [
        make_node("LayerNormalization", ["h", "s", "b"], ["n", "mean", "inverse"], axis=2),
        make_node("Mul", ["n", "mean"], ["scaled"]),
        make_node("Add", ["scaled", "inverse"], ["y"]),
    ]
    coupling = assert_prunes_exactly(between_convs(nodes, {"s": [4, 5], "b": [1, 5]}))
    assert units(coupling) == {"w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w2:1")}
    assert [g.exact for g in coupling.groups] == [True]


def test_rms_norm_mixes_what_it_runs_over() -> None:
    node = make_node("RMSNormalization", ["h", "s"], ["y"])
    coupling = assert_prunes_exactly(between_matmuls([node], {"s": [WIDTH]}, opset=23))
    assert units(coupling) == {"w1:1": one_by_one(WIDTH, "w1:1", "b1:0", "w2:0", "s:0")}
    assert [(g.exact, g.mixes) for g in coupling.groups] == [(False, ("the mean square is taken over it",))]


def test_rms_norm_over_space_is_exact_for_channels() -> None:
    node = make_node("RMSNormalization", ["h", "s"], ["y"], axis=2)
    coupling = assert_prunes_exactly(between_convs([node], {"s": [5]}, opset=23))
    assert [(g.size, g.exact) for g in coupling.groups] == [(WIDTH, True)]


@pytest.mark.parametrize("opset", [13, 18])
def test_layer_norm_spelled_in_primitives(opset: int) -> None:
    def mean(x: str, y: str) -> onnx.NodeProto:
        return make_node("ReduceMean", [x], [y], axes=[-1]) if opset < 18 else make_node("ReduceMean", [x, "last"], [y])

    nodes = [
        mean("h", "mean"),
        make_node("Sub", ["h", "mean"], ["centred"]),
        make_node("Pow", ["centred", "two"], ["squares"]),
        mean("squares", "variance"),
        make_node("Add", ["variance", "epsilon"], ["sum"]),
        make_node("Sqrt", ["sum"], ["deviation"]),
        make_node("Div", ["centred", "deviation"], ["n"]),
        make_node("Mul", ["n", "s"], ["scaled"]),
        make_node("Add", ["scaled", "b"], ["y"]),
    ]
    weights = {"two": np.array(2, np.float32), "epsilon": np.array(1e-5, np.float32), "s": [WIDTH], "b": [WIDTH]}
    if opset >= 18:
        weights["last"] = np.array([-1])
    coupling = assert_prunes_exactly(between_matmuls(nodes, weights, opset=opset))
    assert units(coupling) == {"w1:1": one_by_one(WIDTH, "w1:1", "b1:0", "w2:0", "s:0", "b:0")}
    assert [(g.exact, g.mixes) for g in coupling.groups] == [(False, ("a mean is taken over it",))]


# -- the others ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("opset", [13, 22])
def test_a_norm_is_a_sum_and_exact(p: int, opset: int) -> None:
    coupling = assert_prunes_exactly(
        between_convs([make_node("LpNormalization", ["h"], ["y"], p=p, axis=1)], opset=opset)
    )
    assert units(coupling) == {"w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w2:1")}
    assert [g.exact for g in coupling.groups] == [True]


def test_lp_normalization_takes_the_last_axis_unless_told() -> None:
    coupling = assert_prunes_exactly(between_matmuls([make_node("LpNormalization", ["h"], ["y"])]))
    assert [(g.size, g.exact) for g in coupling.groups] == [(WIDTH, True)]


@pytest.mark.parametrize(("attrs", "exact"), [({}, True), ({"axes": [2, 3]}, True), ({"axes": [0, 1, 2, 3]}, False)])
@pytest.mark.parametrize("opset", [9, 13])
def test_mean_variance_normalization(attrs: dict[str, list[int]], exact: bool, opset: int) -> None:
    node = make_node("MeanVarianceNormalization", ["h"], ["y"], **attrs)
    coupling = assert_prunes_exactly(between_convs([node], opset=opset))
    assert [(g.size, g.exact) for g in coupling.groups] == [(WIDTH, exact)]


def test_neighbours_in_lrn_mix() -> None:
    coupling = assert_prunes_exactly(between_convs([make_node("LRN", ["h"], ["y"], size=3)]))
    assert units(coupling) == {"w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w2:1")}
    assert [g.mixes for g in coupling.groups] == [("squares of neighbouring channels are summed",)]
