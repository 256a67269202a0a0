"""Criteria that need statistics: literal scores on a small model."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxprune.analyse import analyse
from onnxprune.coupling.coupling import Coupling
from onnxprune.errors import SettingError
from onnxprune.importance import Scores, criteria, score
from onnxprune.importance.traits import traits_of
from onnxprune.plan import plan
from onnxprune.runtime.calibrate import calibrate
from onnxprune.runtime.data import open_data
from onnxprune.types import Budget
from tests.support.models import make_model


def array(values: list, *shape: int) -> np.ndarray:
    return np.asarray(values, np.float32).reshape(shape)


def scored(tmp_path: Path, coupling: Coupling, criterion: str, aggregate: str = "sum", **arrays: np.ndarray) -> Scores:
    np.savez(tmp_path / "data.npz", **arrays)
    statistics = calibrate(
        coupling, open_data(tmp_path / "data.npz", coupling.view), traits_of(criteria()[criterion]).needs
    )
    return score(coupling, criterion, normalise="none", aggregate=aggregate, data={"statistics": statistics})


SAMPLES = array([1, -2, 3, -2, 1, 6, 3, 6], 4, 2)
"""After ReLU 1 3 1 3 (mean 2, square 5, variance 1) and 0 0 6 6 (mean 3, square 18, variance 9)."""


@pytest.fixture
def coupling() -> Coupling:
    """x -> identity matrix -> Relu, read by [[1, -2], [3, 0]] and by [[2], [4]]."""
    nodes = [
        helper.make_node("MatMul", ["x", "eye"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["y"]),
        helper.make_node("Gemm", ["r", "u"], ["z"]),
    ]
    weights = {"eye": np.eye(2, dtype=np.float32), "v": array([1, -2, 3, 0], 2, 2), "u": array([2, 4], 2, 1)}
    return analyse(make_model(nodes, {"x": ("n", 2)}, ["y", "z"], weights))


@pytest.mark.parametrize(
    ("criterion", "aggregate", "expected"),
    [
        ("apoz", "sum", [1, 0.5]),
        ("mean_abs", "sum", [2, 3]),
        ("wanda", "sum", [(3 + 2) * 5**0.5, (3 + 4) * 18**0.5]),
        ("wanda", "mean", [2.5 * 5**0.5, 3.5 * 18**0.5]),
        ("wanda", "max", [3 * 5**0.5, 4 * 18**0.5]),
        ("flap", "sum", [1 * (5 + 4), 9 * (9 + 16)]),
    ],
)
def test_literals(tmp_path: Path, coupling: Coupling, criterion: str, aggregate: str, expected: list[float]) -> None:
    scores = scored(tmp_path, coupling, criterion, aggregate, x=SAMPLES)
    assert scores[0].tolist() == pytest.approx(expected, rel=1e-7)
    assert scores.data["statistics"]["samples"] == 4


def test_a_source_that_two_consumers_read_counts_once_for_activations(tmp_path: Path, coupling: Coupling) -> None:
    assert scored(tmp_path, coupling, "mean_abs", "max", x=SAMPLES)[0].tolist() == [2, 3]


def test_channels_of_a_depthwise_convolution_count_where_they_are_felt(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "eye"], ["c"]),
        helper.make_node("Conv", ["c", "depthwise"], ["d"], group=2),
        helper.make_node("Conv", ["d", "v"], ["y"]),
    ]
    weights = {
        "eye": array([1, 0, 0, 1], 2, 2, 1, 1),
        "depthwise": array([10, 100], 2, 1, 1, 1),
        "v": array([1, 1], 1, 2, 1, 1),
    }
    coupling = analyse(make_model(nodes, {"x": (1, 2, 1, 1)}, ["y"], weights))
    scores = scored(tmp_path, coupling, "wanda", x=array([1, 2], 1, 2, 1, 1))
    assert scores[0].tolist() == pytest.approx([10, 200])  # not 10 + 10, 200 + 200


def test_queries_and_keys_are_each_others_weights(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "q"], ["a"]),
        helper.make_node("MatMul", ["x", "k"], ["b"]),
        helper.make_node("Transpose", ["b"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["a", "t"], ["z"]),
    ]
    weights = {"q": array([1, 3], 1, 2), "k": array([5, 2], 1, 2)}
    coupling = analyse(make_model(nodes, {"x": (1, 1, 1)}, ["z"], weights))
    one = np.ones((1, 1, 1), np.float32)
    assert scored(tmp_path, coupling, "wanda", x=one)[0].tolist() == pytest.approx([5, 6])


def quantised() -> onnx.ModelProto:
    """A MatMul with weights behind a decoder: 4 and 8 by a scale of one half."""
    nodes = [
        helper.make_node("MatMul", ["x", "eye"], ["h"]),
        helper.make_node("DequantizeLinear", ["q", "scale"], ["v"]),
        helper.make_node("MatMul", ["h", "v"], ["y"]),
    ]
    weights = {"eye": np.eye(2, dtype=np.float32), "q": np.asarray([[4], [8]], np.int8), "scale": array([0.5])}
    return make_model(nodes, {"x": ("n", 2)}, ["y"], weights)


def test_decoded_weights(tmp_path: Path) -> None:
    scores = scored(tmp_path, analyse(quantised()), "wanda", x=array([1, 1], 1, 2))
    assert scores[0].tolist() == pytest.approx([2, 4])


def test_apoz_says_where_it_sees_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        scored(tmp_path, analyse(quantised()), "apoz", x=array([1, 1], 1, 2))
    assert "apoz cannot tell the units of 1 of 1 groups apart" in caplog.text


def test_needs_are_stated() -> None:
    needs = {name: sorted(traits_of(function).needs) for name, function in criteria().items()}
    assert {name: kinds for name, kinds in needs.items() if kinds} == {
        "apoz": ["zeros"],
        "mean_abs": ["abs"],
        "wanda": ["second"],
        "flap": ["mean", "second"],
        "taylor": ["gradients"],
        "fisher": ["gradients"],
        "obs": ["gram", "mean", "second"],
    }


@pytest.mark.parametrize("criterion", ["apoz", "mean_abs", "wanda", "flap"])
def test_without_statistics_they_are_asked_for(coupling: Coupling, criterion: str) -> None:
    with pytest.raises(SettingError, match=rf"the criterion '{criterion}' needs statistics of activations. give data"):
        score(coupling, criterion)


def test_statistics_of_another_model_are_refused(tmp_path: Path, coupling: Coupling) -> None:
    statistics = calibrate(analyse(quantised()), kinds=["second"])
    with pytest.raises(SettingError, match=r"the statistics are of another model: h:1 has not 2 indices here|r:1"):
        score(
            analyse(make_model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": (3, 2)}, ["y"], {"w": (2, 3)})),
            "wanda",
            data={"statistics": statistics},
        )


def test_a_group_that_cannot_be_judged_stays_whole() -> None:
    """Channels that go to an output alone: nothing sums over them."""
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["h"]),
        helper.make_node("Conv", ["h", "b"], ["y"]),
        helper.make_node("Conv", ["x", "c"], ["z"]),
    ]
    weights = {"a": (4, 2, 1, 1), "b": (2, 4, 1, 1), "c": (6, 2, 1, 1)}
    coupling = analyse(make_model(nodes, {"x": (1, 2, 3, 3)}, ["y", "z"], weights), allow_io_change=["z"])
    assert [group.name for group in coupling.groups] == ["a:0", "c:0"]
    statistics = calibrate(coupling, kinds=["second"])
    scores = score(coupling, "wanda", data={"statistics": statistics})
    assert list(scores.unscored) == [1]
    chosen = plan(coupling, scores, Budget(ratio=0.5), round_to=1)
    assert {group.name: len(group.kept) for group in chosen.groups} == {"a:0": 2, "c:0": 6}
    assert chosen.settings["unscored"] == ["c:0"]
    assert chosen.settings["data"]["statistics"]["synthetic"] is True
