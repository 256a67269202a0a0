"""Which features of a consumer's rows go with each unit: literal arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper

from onnxprune.analyse import analyse
from onnxprune.runtime.consumers import consumers_of
from onnxprune.runtime.footprint import Footprint, footprints
from tests.support.models import make_model
from tests.support.planning import int64


def found(model: onnx.ModelProto, group: str) -> dict[str, Footprint]:
    coupling = analyse(model)
    (index,) = [g.index for g in coupling.groups if g.name == group]
    return {item.consumer.title: item for item in footprints(coupling, index, consumers_of(coupling))}


def rows(item: Footprint) -> list[tuple[int, int, int]]:
    """(unit, block, feature), as they are sorted."""
    for array in (item.units, item.blocks, item.features):
        assert array.dtype == np.int64
    return list(zip(item.units.tolist(), item.blocks.tolist(), item.features.tolist(), strict=True))


def lists(item: Footprint, block: int, size: int) -> list[list[int]]:
    return [features.tolist() for features in item.in_block(block, size)]


def conv(value: str, weight: str, out: str, **attrs: int | Sequence[int]) -> onnx.NodeProto:
    return helper.make_node("Conv", [value, weight], [out], name=weight, **attrs)


def test_a_residual_stream_is_felt_by_everything_that_reads_it() -> None:
    nodes = [
        conv("x", "stem", "s"),
        conv("s", "up", "u"),
        conv("u", "down", "d", pads=[0, 1, 0, 1]),
        helper.make_node("Add", ["s", "d"], ["a"]),
        conv("a", "head", "y"),
    ]
    weights = {"stem": (2, 3, 1, 1), "up": (3, 2, 1, 1), "down": (2, 3, 1, 3), "head": (5, 2, 1, 1)}
    model = make_model(nodes, {"x": (1, 3, 4, 4)}, ["y"], weights)
    stream = found(model, "stem:0")
    assert {title: rows(item) for title, item in stream.items()} == {
        "up": [(0, 0, 0), (1, 0, 1)],
        "head": [(0, 0, 0), (1, 0, 1)],
    }
    branch = found(model, "up:0")
    assert lists(branch["down"], 0, 3) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]  # three taps a channel
    assert list(branch) == ["down"]


def test_what_a_depthwise_convolution_swallows_is_felt_behind_it_alone() -> None:
    nodes = [conv("x", "enter", "c"), conv("c", "depthwise", "d", group=2), conv("d", "leave", "y")]
    weights = {"enter": (2, 3, 1, 1), "depthwise": (2, 1, 3, 3), "leave": (5, 2, 1, 1)}
    prints = found(make_model(nodes, {"x": (1, 3, 4, 4)}, ["y"], weights), "enter:0")
    assert {title: rows(item) for title, item in prints.items()} == {"leave": [(0, 0, 0), (1, 0, 1)]}


def test_a_grouped_convolution_feels_units_in_each_block() -> None:
    """Six channels in two blocks of three go in pairs, the k-th of each block; two taps a channel."""
    nodes = [conv("x", "enter", "c"), conv("c", "grouped", "g", group=2), conv("g", "leave", "y")]
    weights = {"enter": (6, 3, 1, 1), "grouped": (4, 3, 1, 2), "leave": (5, 4, 1, 1)}
    model = make_model(nodes, {"x": (1, 3, 4, 4)}, ["y"], weights)
    item = found(model, "enter:0#2")["grouped"]
    assert rows(item) == [(u, block, 2 * u + tap) for u in range(3) for block in (0, 1) for tap in (0, 1)]
    assert lists(item, 1, 3) == [[0, 1], [2, 3], [4, 5]]
    assert lists(item, 1, 4) == [[0, 1], [2, 3], [4, 5], []]
    blocks = found(model, "enter:0")  # whole blocks go with their outputs
    assert {title: lists(item, 0, 2) for title, item in blocks.items()} == {"leave": [[0, 1], [2, 3]]}


def attention() -> onnx.ModelProto:
    """Two heads of three: queries and keys in front, values and the output behind."""
    nodes = []
    for name in ("q", "k", "v"):
        nodes += [
            helper.make_node("MatMul", ["x", f"w{name}"], [f"f{name}"]),
            helper.make_node("Reshape", [f"f{name}", "split"], [f"s{name}"]),
            helper.make_node(
                "Transpose", [f"s{name}"], [f"h{name}"], perm=[0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]
            ),
        ]
    nodes += [
        helper.make_node("MatMul", ["hq", "hk"], ["scores"], name="scores"),
        helper.make_node("Softmax", ["scores"], ["p"]),
        helper.make_node("MatMul", ["p", "hv"], ["o"]),
        helper.make_node("Transpose", ["o"], ["t"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["t", "join"], ["j"]),
        helper.make_node("MatMul", ["j", "wo"], ["y"], name="project"),
    ]
    weights = dict.fromkeys(("wq", "wk", "wv"), (4, 6)) | {
        "wo": (6, 4), "split": int64(2, 5, 2, 3), "join": int64(2, 5, 6),
    }  # fmt: skip
    return make_model(nodes, {"x": (2, 5, 4)}, ["y"], weights)


def test_heads_take_along_all_their_dims() -> None:
    coupling = analyse(attention())
    (heads,) = [g for g in coupling.groups if g.kind == "heads"]
    prints = footprints(coupling, heads.index, consumers_of(coupling))
    (project,) = [item for item in prints if item.consumer.title == "project"]
    assert lists(project, 0, 2) == [[0, 1, 2], [3, 4, 5]]


def test_dims_of_values_are_taken_from_every_head() -> None:
    coupling = analyse(attention())
    consumers = consumers_of(coupling)
    found_dims = [
        lists(item, 0, 3)
        for g in coupling.groups
        if g.kind != "heads"
        for item in footprints(coupling, g.index, consumers)
        if item.consumer.title == "project"
    ]
    assert found_dims == [[[0, 3], [1, 4], [2, 5]]]


def test_a_flattened_channel_has_a_feature_for_each_place() -> None:
    nodes = [
        conv("x", "enter", "c"),
        helper.make_node("Flatten", ["c"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["y"], name="gemm", transB=1),
    ]
    weights = {"enter": (2, 3, 1, 1), "w": (5, 8)}
    item = found(make_model(nodes, {"x": (1, 3, 2, 2)}, ["y"], weights), "enter:0")["gemm"]
    assert lists(item, 0, 2) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert set(item.blocks.tolist()) == {0}
