"""Normalisations of com.microsoft: residuals, embeddings, groups, branches; what mixes and what stays exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.graph.contrib import MICROSOFT
from onnxprune.ops.normalization import MEAN_AND_VARIANCE, MEAN_SQUARE
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import attributes, pruned
from tests.support.sandwich import WIDTH, between_convs, between_matmuls, one_by_one, taking

Weights = dict[str, np.ndarray | list[int]]
BOTH = [
    pytest.param("SkipLayerNormalization", ["s", "b"], MEAN_AND_VARIANCE, id="with mean"),
    pytest.param("SkipSimplifiedLayerNormalization", ["s"], MEAN_SQUARE, id="simplified"),
]


def skip_model(op: str, parameters: list[str], *, bias: bool = False, read_sum: bool = False) -> onnx.ModelProto:
    """h and a second projection of x are added and normalised; the sum may be read as well."""
    inputs = ["h", "other", *parameters] + (["bias"] if bias else [])
    nodes = [
        make_node("MatMul", ["x", "w3"], ["other"]),
        make_node(op, inputs, ["n", "", "", "total"] if read_sum else ["n"], domain=MICROSOFT),
        make_node("Add", ["n", "total"], ["y"]) if read_sum else make_node("Identity", ["n"], ["y"]),
    ]
    vectors = {name: [WIDTH] for name in (*parameters, *(["bias"] if bias else []))}
    return between_matmuls(nodes, {"w3": [3, WIDTH], **vectors})


@pytest.mark.parametrize(("op", "parameters", "why"), BOTH)
@pytest.mark.parametrize("read_sum", [False, True])
def test_a_residual_and_its_norm_go_together(op: str, parameters: list[str], why: str, read_sum: bool) -> None:
    coupling = assert_prunes_exactly(skip_model(op, parameters, read_sum=read_sum))
    every = ("w1:1", "b1:0", "w3:1", "w2:0", *(f"{p}:0" for p in parameters))
    assert units(coupling) == {"w1:1": one_by_one(WIDTH, *every)}
    assert [(g.kind, g.exact, g.mixes) for g in coupling.groups] == [("width", False, (why,))]


@pytest.mark.parametrize(("op", "parameters", "why"), BOTH)
def test_a_bias_goes_along(op: str, parameters: list[str], why: str) -> None:
    coupling = assert_prunes_exactly(skip_model(op, parameters, bias=True))
    (members,) = units(coupling).values()
    assert [u["bias:0"] for u in members] == [[i] for i in range(WIDTH)]
    assert coupling.groups[0].mixes == (why,)


def test_a_skip_without_a_batch() -> None:
    node = make_node("SkipLayerNormalization", ["h", "places", "s", "b"], ["y"], domain=MICROSOFT)
    model = between_matmuls([node], {"places": [5, WIDTH], "s": [WIDTH], "b": [WIDTH]})
    coupling = assert_prunes_exactly(model)
    assert units(coupling) == {"w1:1": one_by_one(WIDTH, "w1:1", "b1:0", "w2:0", "places:1", "s:0", "b:0")}


@pytest.mark.parametrize("outputs", [["y"], ["y", "deviation"]])
def test_simplified_layer_norm_in_the_domain_of_onnx(outputs: list[str]) -> None:
    node = make_node("SimplifiedLayerNormalization", ["h", "s"], outputs, axis=-1)
    coupling = assert_prunes_exactly(between_matmuls([node], {"s": [WIDTH]}))
    assert units(coupling) == {"w1:1": one_by_one(WIDTH, "w1:1", "b1:0", "w2:0", "s:0")}
    assert coupling.groups[0].mixes == (MEAN_SQUARE,)


def embedding(*, segments: bool = True, total: bool = False, mask: bool = False) -> onnx.ModelProto:
    """ids [2, 5] -> EmbedLayerNormalization of three tables, 6 wide -> a projection to 4."""
    tables: Weights = {"words": [11, WIDTH], "places": [9, WIDTH], "s": [WIDTH], "b": [WIDTH], "w": [WIDTH, 4]}
    inputs = ["ids", "", "words", "places", "", "s", "b"]
    if segments:
        inputs[1], inputs[4] = "which", "kinds"
        tables |= {"which": np.array([[0, 0, 1, 1, 1]] * 2, np.int32), "kinds": [2, WIDTH]}
    if mask:
        inputs.append("mask")
        tables["mask"] = np.array([[1, 1, 1, 1, 0]] * 2, np.int32)
    outputs = ["n", "lengths", "total"] if total else ["n", "lengths"]
    nodes = [
        make_node("EmbedLayerNormalization", inputs, outputs, domain=MICROSOFT),
        make_node("Add", ["n", "total"], ["y"]) if total else make_node("Identity", ["n"], ["y"]),
        make_node("MatMul", ["y", "w"], ["out"]),
    ]
    return make_model(nodes, {"ids": [2, 5]}, ["out"], tables, input_types={"ids": onnx.TensorProto.INT32})


@pytest.mark.parametrize("options", [{}, {"segments": False}, {"total": True}, {"mask": True}], ids=str)
def test_tables_are_as_wide_as_their_norm(options: dict[str, bool]) -> None:
    coupling = assert_prunes_exactly(embedding(**options))
    every = ["words:1", "places:1", "s:0", "b:0", "w:0"] + (["kinds:1"] if options.get("segments", True) else [])
    assert units(coupling) == {"words:1": one_by_one(WIDTH, *every)}
    assert [(g.kind, g.mixes) for g in coupling.groups] == [("width", (MEAN_AND_VARIANCE,))]
    why = {(r.tensor, r.axis): r.why for r in coupling.refusals}
    assert why["words", 0] == why["places", 0] == "its rows are addressed by data"


# -- groups of channels; the CPU build has no kernels for these ----------------------------------------------------


def group_norm(op: str = "GroupNorm", groups: int = 3, *, last: int = 1, skip: list[int] | None = None) -> Any:
    inputs, vectors = ["t" if last else "h", "s", "b"], {"s": [WIDTH], "b": [WIDTH]}
    if skip is not None:
        inputs += ["skip", "bias"]
        vectors |= {"skip": skip, "bias": [WIDTH]}
    norm = make_node(op, inputs, ["n" if last else "y"], domain=MICROSOFT, groups=groups, activation=1,
                     channels_last=last)  # fmt: skip
    if not last:
        return between_convs([norm], vectors)
    turns = [
        make_node("Transpose", [a], [b], perm=p) for a, b, p in (("h", "t", [0, 2, 3, 1]), ("n", "y", [0, 3, 1, 2]))
    ]
    return between_convs([turns[0], norm, turns[1]], vectors)


@pytest.mark.parametrize("last", [0, 1])
def test_a_group_goes_as_a_whole_or_a_member_from_every_group(last: int) -> None:
    coupling = analyse(group_norm(last=last))
    every = ("w1:0", "b1:0", "w2:1", "s:0", "b:0")
    by_group = [taking([2 * i, 2 * i + 1], *every) for i in range(3)]
    by_member = [taking([0, 2, 4], *every), taking([1, 3, 5], *every)]
    assert sorted(units(coupling).values(), key=len) == [by_member, by_group]
    assert {g.size: g.mixes for g in coupling.groups} == {3: (), 2: (MEAN_AND_VARIANCE,)}


def test_the_number_of_groups_follows() -> None:
    model = group_norm()
    name = {g.size: g.name for g in analyse(model).groups}
    assert attributes(pruned(model, {name[3]: [0, 2]}), "GroupNorm")["groups"] == 2
    assert attributes(pruned(model, {name[2]: [1]}), "GroupNorm")["groups"] == 3


@pytest.mark.parametrize("skip", [[2, WIDTH], [2, 1, 1, WIDTH], [2, 4, 5, WIDTH]])
def test_what_is_skipped_and_its_bias_go_along(skip: list[int]) -> None:
    coupling = analyse(group_norm("SkipGroupNorm", skip=skip))
    by_group = max(units(coupling).values(), key=len)
    assert by_group[1][f"skip:{len(skip) - 1}"] == by_group[1]["bias:0"] == by_group[1]["w1:0"] == [2, 3]


def test_no_groups_freeze() -> None:
    why = {(r.tensor, r.axis): r.why for r in analyse(group_norm(groups=0)).refusals}
    assert why["s", 0] == "groups=0"


# -- runs of one axis ----------------------------------------------------------------------------------------------


def test_gated_norm_goes_by_head_exactly_or_by_dim() -> None:
    nodes = [
        make_node("MatMul", ["x", "w3"], ["gate"]),
        make_node("GatedRMSNorm", ["h", "s", "gate"], ["y"], domain=MICROSOFT, activation="silu"),
    ]
    coupling = assert_prunes_exactly(between_matmuls(nodes, {"w3": [3, WIDTH], "s": [2]}))
    every = ("w1:1", "b1:0", "w3:1", "w2:0")
    heads = [taking([2 * i, 2 * i + 1], *every) for i in range(3)]
    dims = [{**taking([i, 2 + i, 4 + i], *every), "s:0": [i]} for i in range(2)]
    assert sorted(units(coupling).values(), key=len) == [dims, heads]
    assert {g.size: g.mixes for g in coupling.groups} == {3: (), 2: (MEAN_SQUARE,)}


@pytest.mark.parametrize(("scale", "by_branch"), [([WIDTH], True), ([2], False), (None, False)])
def test_branches_of_one_axis(scale: list[int] | None, by_branch: bool) -> None:
    inputs = ["h"] if scale is None else ["h", "s"]
    node = make_node("BranchwiseRMSNorm", inputs, ["y"], domain=MICROSOFT, num_branches=3)
    model = between_matmuls([node], {} if scale is None else {"s": scale})
    coupling = assert_prunes_exactly(model)
    branches, dims = sorted(units(coupling).values(), key=len, reverse=True)
    assert [u["w1:1"] for u in branches] == [[0, 1], [2, 3], [4, 5]]
    assert [u["w1:1"] for u in dims] == [[0, 2, 4], [1, 3, 5]]
    if by_branch:
        assert [u["s:0"] for u in branches] == [[0, 1], [2, 3], [4, 5]]
    name = next(g.name for g in coupling.groups if g.size == 3)
    assert attributes(pruned(model, {name: [0, 2]}), "BranchwiseRMSNorm") == {"num_branches": 2}


@pytest.mark.parametrize(("scale", "axes"), [([3, 2], {"s:0", "s:1"}), ([2], {"s:0"}), (None, set())])
def test_branches_of_an_axis_of_their_own(scale: list[int] | None, axes: set[str]) -> None:
    inputs = ["split"] if scale is None else ["split", "s"]
    nodes = [
        make_node("Reshape", ["h", "apart"], ["split"]),
        make_node("BranchwiseRMSNorm", inputs, ["n"], domain=MICROSOFT),
        make_node("Reshape", ["n", "together"], ["y"]),
    ]
    weights: Weights = {"apart": np.array([0, 0, 3, 2]), "together": np.array([0, 0, 6])}
    coupling = assert_prunes_exactly(between_matmuls(nodes, weights | ({} if scale is None else {"s": scale})))
    found = {axis for members in units(coupling).values() for axis in members[0] if axis.startswith("s:")}
    assert found == axes
    assert {g.size: g.mixes for g in coupling.groups} == {3: (), 2: (MEAN_SQUARE,)}
