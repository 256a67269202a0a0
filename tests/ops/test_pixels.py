"""Channels traded for places: pixel shuffle in both modes and spelled out, its inverse, columns to an image."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import array, pruned

DCR = [{"w1:0": [c, 3 + c, 6 + c, 9 + c], "b1:0": [c, 3 + c, 6 + c, 9 + c], "w2:1": [c]} for c in range(3)]
CRD = [{"w1:0": [4 * c + i for i in range(4)], "b1:0": [4 * c + i for i in range(4)], "w2:1": [c]} for c in range(3)]
"""The twelve channels behind each of three pixel-shuffled ones: places before or after the channel."""


def shuffle_head(
    *nodes: onnx.NodeProto, opset: int = 17, weights: dict[str, np.ndarray] | None = None
) -> onnx.ModelProto:
    """Super-resolution: x [1, 2, 4, 5] -> Conv to 12 channels `a` -> Relu -> `nodes` -> [1, 3, 8, 10] `c` -> Conv."""
    chain = [
        make_node("Conv", ["x", "w1", "b1"], ["a"], pads=[1, 1, 1, 1]),
        make_node("Relu", ["a"], ["b"]),
        *nodes,
        make_node("Conv", ["c", "w2"], ["out"], pads=[1, 1, 1, 1]),
    ]
    sizes = {"w1": [12, 2, 3, 3], "b1": [12], "w2": [2, 3, 3, 3], **(weights or {})}
    return make_model(chain, {"x": [1, 2, 4, 5]}, ["out"], sizes, opset=opset)


@pytest.mark.parametrize("opset", [7, 10])
def test_depth_to_space_with_places_first(opset: int) -> None:
    model = shuffle_head(make_node("DepthToSpace", ["b"], ["c"], blocksize=2), opset=opset)
    assert units(assert_prunes_exactly(model)) == {"w1:0": DCR}


@pytest.mark.parametrize(("mode", "expected"), [("DCR", DCR), ("CRD", CRD)])
@pytest.mark.parametrize("opset", [11, 13])
def test_depth_to_space(mode: str, expected: list[dict[str, list[int]]], opset: int) -> None:
    model = shuffle_head(make_node("DepthToSpace", ["b"], ["c"], blocksize=2, mode=mode), opset=opset)
    assert units(assert_prunes_exactly(model)) == {"w1:0": expected}


@pytest.mark.parametrize(
    ("split", "perm", "expected", "after"),
    [
        ([1, 3, 2, 2, 4, 5], [0, 1, 4, 2, 5, 3], CRD, [1, 2, 2, 2, 4, 5]),
        ([1, 2, 2, 3, 4, 5], [0, 3, 4, 1, 5, 2], DCR, [1, 2, 2, 2, 4, 5]),
    ],
    ids=["CRD", "DCR"],
)
def test_pixel_shuffle_spelled_out(
    split: list[int], perm: list[int], expected: list[dict[str, list[int]]], after: list[int]
) -> None:
    model = shuffle_head(
        make_node("Reshape", ["b", "split"], ["s"]),
        make_node("Transpose", ["s"], ["t"], perm=perm),
        make_node("Reshape", ["t", "join"], ["c"]),
        weights={"split": np.array(split), "join": np.array([1, 3, 8, 10])},
    )
    coupling = assert_prunes_exactly(model)
    assert units(coupling) == {"w1:0": expected}
    smaller = pruned(model, {"w1:0": [0, 2]})
    assert array(smaller, "split").tolist() == after
    assert array(smaller, "join").tolist() == [1, 2, 8, 10]


@pytest.mark.parametrize("opset", [7, 13])
def test_space_to_depth(opset: int) -> None:
    """x's channel goes with its four channels of the output, places first."""
    nodes = [
        make_node("Conv", ["x", "w1"], ["a"]),
        make_node("SpaceToDepth", ["a"], ["b"], blocksize=2),
        make_node("Conv", ["b", "w2"], ["out"]),
    ]
    model = make_model(nodes, {"x": [1, 2, 4, 6]}, ["out"], {"w1": [3, 2, 1, 1], "w2": [2, 12, 1, 1]}, opset=opset)
    expected = [{"w1:0": [c], "w2:1": [c, 3 + c, 6 + c, 9 + c]} for c in range(3)]
    assert units(assert_prunes_exactly(model)) == {"w1:0": expected}


def test_columns_back_to_an_image() -> None:
    """[1, 3 channels x (2 x 2), 12 blocks] -> [1, 3, 4, 5]."""
    nodes = [
        make_node("Conv", ["x", "w1"], ["a"]),
        make_node("Col2Im", ["a", "image", "block"], ["b"]),
        make_node("Conv", ["b", "w2"], ["out"]),
    ]
    weights = {"w1": [12, 2, 1], "w2": [2, 3, 1, 1], "image": np.array([4, 5]), "block": np.array([2, 2])}
    model = make_model(nodes, {"x": [1, 2, 12]}, ["out"], weights, opset=18)
    expected = [{"w1:0": [4 * c + i for i in range(4)], "w2:1": [c]} for c in range(3)]
    assert units(assert_prunes_exactly(model)) == {"w1:0": expected}


def test_there_and_back() -> None:
    """What SpaceToDepth folds and DepthToSpace unfolds is the same channel."""
    nodes = [
        make_node("Conv", ["x", "w1"], ["a"]),
        make_node("SpaceToDepth", ["a"], ["b"], blocksize=2),
        make_node("Mul", ["b", "gate"], ["c"]),
        make_node("DepthToSpace", ["c"], ["d"], blocksize=2, mode="DCR"),
        make_node("Conv", ["d", "w2"], ["out"]),
    ]
    weights = {"w1": [3, 2, 1, 1], "gate": [1, 12, 1, 1], "w2": [2, 3, 1, 1]}
    model = make_model(nodes, {"x": [1, 2, 4, 6]}, ["out"], weights)
    expected = [{"w1:0": [c], "gate:1": [c, 3 + c, 6 + c, 9 + c], "w2:1": [c]} for c in range(3)]
    assert units(assert_prunes_exactly(model)) == {"w1:0": expected}
