"""Operators of com.microsoft on images: channels go their own way, places stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.graph.contrib import MICROSOFT
from tests.support.models import units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import attributes, pruned
from tests.support.sandwich import WIDTH, between_convs, one_by_one

BOXES = np.array([[0.1, 0.1, 0.8, 0.9], [0, 0, 1, 1], [0.2, 0.3, 0.7, 0.6]], np.float32)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_crops(mode: str) -> None:
    node = make_node("CropAndResize", ["h", "boxes", "of", "size"], ["y"], domain=MICROSOFT, mode=mode)
    weights = {"boxes": BOXES, "of": np.array([0, 1, 1], np.int32), "size": np.array([2, 3], np.int32)}
    coupling = assert_prunes_exactly(between_convs([node], weights))
    assert units(coupling) == {"w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w2:1")}
    assert coupling.groups[0].exact


def test_sampled_at_a_grid() -> None:
    node = make_node("GridSample", ["h", "grid"], ["y"], domain=MICROSOFT)
    coupling = assert_prunes_exactly(between_convs([node], {"grid": [2, 3, 2, 2]}))
    assert units(coupling) == {"w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w2:1")}


@pytest.mark.parametrize("groups", [1, 3])
def test_transposed_convolution_with_pads_as_an_input(groups: int) -> None:
    node = make_node(
        "ConvTransposeWithDynamicPads", ["h", "w", "pads", "b"], ["y"], domain=MICROSOFT, group=groups, strides=[2, 2]
    )
    weights: dict[str, Any] = {"w": [WIDTH, 9 // groups, 3, 3], "pads": np.array([1, 0, 1, 0]), "b": [9]}
    model = between_convs([node], weights, reads=9)
    coupling = assert_prunes_exactly(model)
    if groups == 1:
        assert units(coupling) == {
            "w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w:0"),
            "w:1": one_by_one(9, "w:1", "b:0", "w2:1"),
        }
    else:
        whole = next(g.name for g in coupling.groups if {"w1:0", "b:0"} <= units(coupling)[g.name][0].keys())
        left = attributes(pruned(model, {whole: [0, 2]}), "ConvTransposeWithDynamicPads")
        assert left["group"] == 2
    assert analyse(model).cost().macs == 2 * 4 * 5 * (3 * WIDTH + WIDTH * (9 // groups) * 9) + 2 * 7 * 11 * 9 * 4
