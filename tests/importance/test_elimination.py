"""Backward elimination: what is lost is the error of least squares with the features that are left."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from onnxprune.importance import elimination
from onnxprune.importance.elimination import Part, eliminate


def made(rng: np.random.Generator, features: Sequence[Sequence[int]], size: int, outputs: int = 3) -> Part:
    x = rng.normal(size=(400, size)) @ rng.normal(size=(size, size))
    return Part(x.T @ x / len(x), rng.normal(size=(size, outputs)), [np.asarray(f, np.int64) for f in features])


def error(part: Part, gone: Sequence[int]) -> float:
    """The share of the output that least squares on the other features misses, the plain way."""
    taken = {f for unit in gone for f in part.features[unit].tolist()}
    left = [f for f in range(len(part.second)) if f not in taken]
    second, weight = part.second, part.weight
    missed = second - second[:, left] @ np.linalg.pinv(second[np.ix_(left, left)]) @ second[left]
    return float(np.trace(weight.T @ missed @ weight) / np.trace(weight.T @ second @ weight))


FEATURES = {
    "one feature a unit": ([[0], [1], [2], [3], [4]], 5),
    "two features a unit": ([[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]], 10),
    "of several widths, and one that nothing takes": ([[3], [0, 2], [1, 4, 5], [], [6]], 8),
    "features that two units share": ([[0, 1], [1, 2], [3], [4], [4, 5]], 6),
}


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize("parts", [1, 3])
def test_every_step_loses_what_least_squares_misses_and_no_other_loses_less(name: str, parts: int) -> None:
    features, size = FEATURES[name]
    rng = np.random.default_rng(0)
    given = [made(rng, features, size) for _ in range(parts)]
    brute = [Part(part.second, part.weight, part.features) for part in given]
    found = eliminate(5, given)
    assert sorted(found.order.tolist()) == [0, 1, 2, 3, 4]
    gone: list[int] = []
    for unit, lost in zip(found.order.tolist(), found.lost.tolist(), strict=True):
        tried = {other: sum(error(part, [*gone, other]) for part in brute) for other in range(5) if other not in gone}
        assert tried[unit] == pytest.approx(min(tried.values()), rel=1e-6, abs=1e-12)
        gone.append(unit)
        assert lost == pytest.approx(sum(error(part, gone) for part in brute), rel=1e-6, abs=1e-12)
    assert np.all(np.diff(found.lost) >= -1e-12)


def test_costs_are_those_of_the_next_step() -> None:
    part = made(np.random.default_rng(1), [[0, 1], [2], [3], [4, 5]], 6)
    part.drop([2])
    base = error(part, [2])
    costs = part.costs(np.asarray([0, 1, 3]))
    assert costs.tolist() == pytest.approx([error(part, [2, unit]) - base for unit in (0, 1, 3)], rel=1e-6)


def test_several_at_once_lose_what_they_lose_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elimination, "STEPS", 2)
    part = made(np.random.default_rng(2), [[k] for k in range(6)], 6)
    brute = Part(part.second, part.weight, part.features)
    found = eliminate(6, [part])
    first, rest = found.order[:3].tolist(), found.order[3:].tolist()
    alone = {unit: error(brute, [unit]) for unit in range(6)}
    assert first == sorted(alone, key=lambda unit: alone[unit])[:3]
    assert found.lost[2] == pytest.approx(error(brute, first), rel=1e-6)
    assert found.lost[5] == pytest.approx(error(brute, [*first, *rest]), rel=1e-6)
    assert np.all(np.diff(found.lost) >= 0)


def test_large_blocks_are_worked_on_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    part = made(np.random.default_rng(3), [[2 * k, 2 * k + 1] for k in range(5)], 10)
    whole = part.costs(np.arange(5))
    monkeypatch.setattr(elimination, "_SOLVED", 1)
    np.testing.assert_allclose(part.costs(np.arange(5)), whole, rtol=1e-12)


def test_a_unit_that_others_can_stand_in_for_goes_first() -> None:
    """Units 1 and 2 are the same number: one of them costs nothing, and then the other costs a great deal."""
    x = np.random.default_rng(4).normal(size=(500, 3))
    x[:, 2] = x[:, 1]
    second = x.T @ x / 500 + 1e-9 * np.eye(3)
    found = eliminate(3, [Part(second, np.asarray([[1.0], [3.0], [3.0]]), [np.asarray([k]) for k in range(3)])])
    assert found.order[1] == 0
    assert found.lost[0] == pytest.approx(0, abs=1e-6)
    assert found.lost[1] == pytest.approx(1 / 37, abs=0.01)
    assert found.lost[2] == pytest.approx(1, abs=1e-6)


def test_ties_go_in_order() -> None:
    part = Part(np.eye(4), np.ones((4, 2)), [np.asarray([k]) for k in range(4)])
    found = eliminate(4, [part])
    assert found.order.tolist() == [0, 1, 2, 3]
    assert found.lost.tolist() == pytest.approx([0.25, 0.5, 0.75, 1])


def test_dead_features_go_first_and_weights_of_zero_lose_nothing() -> None:
    second = np.diag([1.0, 1e-12, 1.0])  # as conditioned: the variance of a dead feature is its damping alone
    features = [np.asarray([k]) for k in range(3)]
    found = eliminate(3, [Part(second, np.ones((3, 1)), features)])
    assert found.order.tolist()[0] == 1
    assert found.lost[0] == pytest.approx(0, abs=1e-9)
    nothing = eliminate(3, [Part(second, np.zeros((3, 1)), features)])
    assert (nothing.order.tolist(), nothing.lost.tolist()) == ([0, 1, 2], [0, 0, 0])


def test_what_is_lost_elsewhere_counts_whatever_is_gone() -> None:
    part = Part(np.eye(3), np.ones((3, 1)), [np.asarray([k]) for k in range(3)])
    found = eliminate(3, [part], np.asarray([0.5, 0.1, 0.2]))
    assert found.order.tolist() == [1, 2, 0]
    assert found.lost.tolist() == pytest.approx([1 / 3 + 0.1, 2 / 3 + 0.3, 1 + 0.8])
    alone = eliminate(2, [], np.asarray([2.0, 1.0]))
    assert (alone.order.tolist(), alone.lost.tolist()) == ([1, 0], [1, 3])
