"""Structured Optimal Brain Surgeon: scores that follow backward elimination on measured statistics."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from onnx import helper

from onnxprune.analyse import analyse
from onnxprune.coupling.coupling import Coupling
from onnxprune.importance import score
from onnxprune.plan import plan
from onnxprune.runtime.calibrate import calibrate
from onnxprune.types import Budget
from tests.support.models import make_model
from tests.support.repairing import given


def scores(coupling: Coupling, **arrays: np.ndarray) -> list[list[float]]:
    statistics = calibrate(coupling, given(coupling, **arrays), ["gram", "mean", "second"], positions=None)
    found = score(coupling, "obs", data={"statistics": statistics})
    assert found.normalise == "none"
    return [values.tolist() for values in found.values]


def test_what_has_a_double_goes_first() -> None:
    """Channels 1 and 3 are the same: one of them costs nothing, the other as much as both."""
    weight = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    weight[:, 3] = weight[:, 1]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "v"], ["y"])]
    weights = {"w": weight, "v": np.asarray([[1], [2], [1], [2]], np.float32)}
    coupling = analyse(make_model(nodes, {"x": ("n", 6)}, ["y"], weights))
    (found,) = scores(coupling, x=np.random.default_rng(1).normal(size=(600, 6)).astype(np.float32))
    assert min(found) == found[1]
    assert found[1] < 0.01 * max(found)
    assert sum(found) == pytest.approx(1, abs=0.05)  # all of the output, once everything is gone
    assert found[3] > 0.3


def test_a_dead_channel_of_an_image() -> None:
    """A dead channel (weights of zero in front of a Relu) loses nothing in a 3x3 convolution."""
    enter = np.random.default_rng(0).normal(size=(4, 2, 1, 1)).astype(np.float32)
    enter[2] = 0
    nodes = [
        helper.make_node("Conv", ["x", "enter"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "w"], ["y"]),
    ]
    coupling = analyse(make_model(nodes, {"x": ("n", 2, 6, 6)}, ["y"], {"enter": enter, "w": (3, 4, 3, 3)}))
    (found,) = scores(coupling, x=np.random.default_rng(1).normal(size=(40, 2, 6, 6)).astype(np.float32))
    assert min(found) == found[2]
    assert found[2] < 1e-3  # its damping


def test_weights_of_zero_are_told_apart_by_order_alone() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "v"], ["y"])]
    weights = {"w": (3, 4), "v": np.zeros((4, 2), np.float32)}
    coupling = analyse(make_model(nodes, {"x": ("n", 3)}, ["y"], weights))
    (found,) = scores(coupling, x=np.ones((20, 3), np.float32))
    assert found == sorted(found)
    assert max(found) < 1e-9


def test_a_consumer_without_weights_counts_by_its_variance() -> None:
    """Queries and keys are each other's weights: unit 1's products vary most."""
    nodes = [
        helper.make_node("MatMul", ["x", "q"], ["a"]),
        helper.make_node("MatMul", ["x", "k"], ["b"]),
        helper.make_node("Transpose", ["b"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["a", "t"], ["z"]),
    ]
    weights = {"q": np.asarray([[1, 3, 2]], np.float32), "k": np.asarray([[1, 3, 2]], np.float32)}
    coupling = analyse(make_model(nodes, {"x": ("n", 5, 1)}, ["z"], weights))
    (found,) = scores(coupling, x=np.random.default_rng(0).normal(size=(30, 5, 1)).astype(np.float32))
    total = 1 + 81 + 16
    assert found == pytest.approx([1 / total, 81 / total, 16 / total], rel=1e-3)


def test_too_few_rows_are_said_and_still_give_scores(caplog: pytest.LogCaptureFixture) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("MatMul", ["h", "v"], ["y"], name="down"),
    ]
    coupling = analyse(make_model(nodes, {"x": ("n", 3)}, ["y"], {"w": (3, 40), "v": (40, 2)}))
    with caplog.at_level(logging.WARNING):
        (found,) = scores(coupling, x=np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32))
    assert "1 of 1 layers have more inputs than the data has rows for (down first)" in caplog.text
    assert np.all(np.isfinite(found))


def test_the_plan_keeps_the_order_of_elimination() -> None:
    """Scores never fall along the order, so the units that stay are those that elimination drops last."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["y"]),
    ]
    coupling = analyse(make_model(nodes, {"x": ("n", 5)}, ["y"], {"w": (5, 12), "v": (12, 4)}))
    data = given(coupling, x=np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32))
    found = score(
        coupling, "obs", data={"statistics": calibrate(coupling, data, ["gram", "mean", "second"], positions=None)}
    )
    kept = [set(plan(coupling, found, Budget(ratio=r), round_to=1).groups[0].kept) for r in (0.25, 0.5, 0.75)]
    assert kept[0] > kept[1] > kept[2]
    assert len(set(found[0].tolist())) == 12
