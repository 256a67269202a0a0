"""Numbers at several places become one per unit: by sum, mean or maximum."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from onnxprune.analyse import analyse
from onnxprune.coupling.coupling import Coupling
from onnxprune.errors import SettingError
from onnxprune.importance import score
from onnxprune.importance.tally import Tally
from onnxprune.importance.traits import Unscored
from tests.support.models import make_model
from tests.support.planning import conv_chain, two_factors


def classes(coupling: Coupling, tensor: str, axis: int) -> np.ndarray:
    slot = coupling.atoms.slots[coupling.tensor_slots[tensor][axis][0]]
    return coupling.solution.label[slot.start : slot.start + slot.size]


@pytest.mark.parametrize(("how", "expected"), [("sum", [11, 22, 33]), ("mean", [5.5, 11, 16.5]), ("max", [10, 20, 30])])
def test_over_places(how: str, expected: list[float]) -> None:
    coupling = analyse(conv_chain((3,)))
    tally = Tally(coupling, how)
    tally.add(classes(coupling, "w0", 0), np.asarray([1.0, 2, 3]))
    tally.add(classes(coupling, "head", 1), np.asarray([10.0, 20, 30]))
    (values,) = tally.by_group()
    assert isinstance(values, np.ndarray)
    assert values.tolist() == expected


@pytest.mark.parametrize("how", ["sum", "mean", "max"])
def test_indices_of_one_place_are_summed(how: str) -> None:
    coupling = analyse(two_factors())  # 8 columns are 2 heads of 4 dims
    tally = Tally(coupling, how)
    tally.add(classes(coupling, "w", 1), np.asarray([1.0, 2, 3, 4, 10, 20, 30, 40]))
    heads, dims = tally.by_group()
    assert isinstance(heads, np.ndarray)
    assert isinstance(dims, np.ndarray)
    assert heads.tolist() == [10, 100]
    assert dims.tolist() == [11, 22, 33, 44]


def test_the_largest_of_negative_numbers() -> None:
    coupling = analyse(conv_chain((2,)))
    tally = Tally(coupling, "max")
    tally.add(classes(coupling, "w0", 0), np.asarray([-5.0, -2]))
    tally.add(classes(coupling, "head", 1), np.asarray([-3.0, -4]))
    (values,) = tally.by_group()
    assert isinstance(values, np.ndarray)
    assert values.tolist() == [-3, -2]


def test_groups_that_were_at_no_place_are_told_apart() -> None:
    coupling = analyse(conv_chain((3, 2)))
    tally = Tally(coupling)
    tally.add(classes(coupling, "w0", 0), np.asarray([1.0, 0, 0]))
    first, second = tally.by_group("why not")
    assert isinstance(first, np.ndarray)
    assert first.tolist() == [1, 0, 0]
    assert second == Unscored("why not")
    assert [np.asarray(values).tolist() for values in tally.by_group()] == [[1, 0, 0], [0, 0]]


def test_what_a_block_swallows_does_not_count() -> None:
    """A depthwise channel's output goes with it; of a block of two that makes two others, nothing goes with either."""
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["c"]),
        helper.make_node("Conv", ["c", "depthwise"], ["d"], group=2),
        helper.make_node("Conv", ["d", "b"], ["y"]),
    ]
    weights = {"a": (2, 3, 1, 1), "depthwise": (2, 1, 1, 1), "b": (2, 2, 1, 1)}
    coupling = analyse(make_model(nodes, {"x": (1, 3, 4, 4)}, ["y"], weights))
    mine = classes(coupling, "a", 0)
    for outputs, expected in (
        (mine.reshape(2, 1), [0, 0]),
        (mine.reshape(1, 2), [1, 2]),
        (mine[::-1].reshape(2, 1), [1, 2]),
    ):
        tally = Tally(coupling)
        tally.add(mine, np.asarray([1.0, 2]), outputs)
        (values,) = tally.by_group()
        assert isinstance(values, np.ndarray)
        assert values.tolist() == expected


@pytest.mark.parametrize(
    ("criterion", "how", "expected"),
    [
        pytest.param("l2", "sum", [5, 5], id="l2"),
        pytest.param("l2", "mean", [(25 / 3) ** 0.5, (25 / 3) ** 0.5], id="l2 by mean"),
        pytest.param("l2", "max", [4, 4], id="l2 by max"),
        pytest.param("l1", "sum", [1 + 2 + 2 + 4, 4 + 0 + 3], id="l1"),
        pytest.param("l1", "mean", [9 / 3, 7 / 3], id="l1 by mean"),
        pytest.param("l1", "max", [4, 4], id="l1 by max"),
    ],
)
def test_magnitudes(criterion: str, how: str, expected: list[float]) -> None:
    """Filters [1, -2], [4, 0] (or their squares), biases 2, 0, columns [-4, 0], [3, 0]."""
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"]), helper.make_node("Conv", ["c", "v"], ["y"])]
    weights = {
        "w": np.asarray([1, -2, 4, 0], np.float32).reshape(2, 2, 1, 1), "b": np.asarray([2, 0], np.float32),
        "v": np.asarray([-4, 3, 0, 0], np.float32).reshape(2, 2, 1, 1),
    }  # fmt: skip
    coupling = analyse(make_model(nodes, {"x": (1, 2, 4, 4)}, ["y"], weights))
    scores = score(coupling, criterion, aggregate=how, normalise="none")
    assert scores[0].tolist() == pytest.approx(expected, rel=1e-12)
    assert scores.aggregate == how


def test_an_unknown_aggregation_is_named() -> None:
    with pytest.raises(SettingError, match=r"no aggregation 'median'. there are: sum, mean, max"):
        score(analyse(conv_chain((3,))), aggregate="median")
