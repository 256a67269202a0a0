"""Pooling against ONNX Runtime: pads at both ends, ceil mode, dilations, places of maxima."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper

from onnxprune.recover import to_torch
from onnxprune.runtime.ort import make_session
from tests.support.models import make_model

WINDOWS: list[dict[str, Any]] = [
    {"kernel_shape": [3, 3]},
    {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [2, 2], "dilations": [2, 2]},
]


def compare(op: str, outputs: list[str], **attributes: Any) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 7, 8)).astype(np.float32)
    model = make_model([helper.make_node(op, ["x"], outputs, **attributes)], {"x": [2, 3, 7, 8]}, outputs, {}, opset=19)
    expected = make_session(model.SerializeToString()).run(None, {"x": x})
    module = to_torch(model)
    found = module(torch.from_numpy(x))
    for mine, theirs in zip(found if isinstance(found, tuple) else (found,), expected, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_windows(window: dict[str, Any]) -> None:
    compare("MaxPool", ["y"], **window)
    compare("AveragePool", ["y"], **window)
    compare("AveragePool", ["y"], count_include_pad=1, **window)
    compare("LpPool", ["y"], **window)


@pytest.mark.parametrize("window", WINDOWS[:2] + WINDOWS[5:], ids=str)
def test_places_of_maxima(window: dict[str, Any]) -> None:
    model = make_model(
        [helper.make_node("MaxPool", ["x"], ["y", "places"], **window)], {"x": [2, 3, 7, 8]}, ["y"], {}, opset=19
    )
    x = np.random.default_rng(0).normal(size=(2, 3, 7, 8)).astype(np.float32)
    found = to_torch(model).run({"x": x}, ["y", "places"])
    np.testing.assert_array_equal(found["y"].numpy(), x.reshape(-1)[found["places"].numpy()])
