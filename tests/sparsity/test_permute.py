"""The search for orders: its gains are exact, it never loses, and it finds what is known to be there."""

from __future__ import annotations

import time
from itertools import combinations

import numpy as np
import pytest

from onnxprune.sparsity.anneal import _State
from onnxprune.sparsity.groups import kept_by_2_4
from onnxprune.sparsity.permute import best_order
from onnxprune.sparsity.tabu import Searches

FOREVER = 1e6  # a search ends by itself where nothing more is found: no result here hangs on the clock


def test_what_2_4_keeps() -> None:
    columns = np.array([[1.0], [2.0], [3.0], [4.0], [9.0]])
    assert kept_by_2_4(columns) == 3 + 4 + 9


def test_gains_are_what_a_swap_really_gains() -> None:
    scores = np.random.default_rng(0).random((16, 9)).astype(np.float32)
    searches = Searches(scores, np.random.default_rng(2), count=3)
    for _ in range(3):  # after some swaps, too
        for search, order in enumerate(searches.order):
            before = kept_by_2_4(scores[order])
            assert searches.kept[search].sum() == pytest.approx(before, rel=1e-5)
            for p, q in ((0, 5), (3, 15), (8, 6)):
                other = order.copy()
                other[[p, q]] = other[[q, p]]
                assert searches.gains[search, p, q] == pytest.approx(kept_by_2_4(scores[other]) - before, abs=1e-4)
            assert np.isneginf(searches.gains[search, 4:8, 4:8]).all()
        searches.swap(np.array([1, 9, 4]), np.array([6, 14, 0]))


def test_searches_start_anew_where_they_find_nothing() -> None:
    scores = np.random.default_rng(0).random((12, 5)).astype(np.float32)
    searches = Searches(scores, np.random.default_rng(2), count=3)
    best = -1.0
    for _ in range(12):  # 1,200 steps of some 5,000 orders that differ in what they keep
        searches.advance(100, time.perf_counter() + FOREVER)
        searches.restart_lost()
        assert searches.best >= best
        best = searches.best
        for order, kept in zip(searches.order, searches.kept, strict=True):
            assert sorted(order.tolist()) == list(range(12))
            assert kept.sum() == pytest.approx(kept_by_2_4(scores[order]), rel=1e-5)
    assert best == pytest.approx(kept_by_2_4(scores[searches.best_order]), rel=1e-5)
    assert best == pytest.approx(_best_by_trying_all(scores), rel=1e-5)


def _best_by_trying_all(scores: np.ndarray) -> float:
    """Over all 5,775 ways to part 12 columns into three groups."""
    found = 0.0
    rest = set(range(1, 12))
    for first in combinations(sorted(rest), 3):
        left = sorted(rest - set(first))
        for second in combinations(left[1:], 3):
            third = [c for c in left[1:] if c not in second]
            found = max(found, kept_by_2_4(scores[[0, *first, left[0], *second, *third]]))
    return found


def test_gains_of_pairs_are_what_a_swap_really_gains() -> None:
    scores = np.random.default_rng(0).random((16, 9)).astype(np.float32)
    state = _State(scores)
    rng = np.random.default_rng(1)
    for _ in range(3):  # after some rounds, too
        order = state._order.reshape(-1).copy()
        before = kept_by_2_4(scores[order])
        assert state._sum() == pytest.approx(before, rel=1e-5)
        gains = state._gains(np.array([0, 3]), np.array([2, 1])).reshape(2, 4, 4)
        for pair, (p, q) in ((0, (1, 11)), (1, (14, 4))):
            other = order.copy()
            other[[p, q]] = other[[q, p]]
            assert gains[pair, p % 4, q % 4] == pytest.approx(kept_by_2_4(scores[other]) - before, abs=1e-4)
        state.round(rng, 0.5)
    assert sorted(state.best().tolist()) == list(range(16))


def test_annealing_finds_what_was_planted() -> None:
    columns = np.ones((200, 16), np.float32)
    columns[:100] = 10
    state, rng = _State(columns), np.random.default_rng(0)
    for _ in range(400):
        state.round(rng, 0.1)
    assert kept_by_2_4(columns[state.best()]) == 16 * 100 * 10


def test_a_planted_order_is_found() -> None:
    # two large columns in every group of the right order, all eight in two groups at first
    columns = np.ones((16, 30))
    columns[:8] = 10
    found = best_order(columns, seconds=FOREVER)
    assert found.before == 30 * (8 * 10 / 2 + 8 / 2)
    assert found.after == 30 * 8 * 10


@pytest.mark.parametrize("shape", [(64, 40), (200, 16)])
def test_it_never_loses_and_gives_an_order(shape: tuple[int, int]) -> None:
    columns = np.random.default_rng(3).random(shape)
    found = best_order(columns, seconds=0.2, seed=1)
    assert sorted(found.order.tolist()) == list(range(shape[0]))
    assert found.after >= found.before == kept_by_2_4(columns)
    assert found.after == kept_by_2_4(columns[found.order])


def test_the_tail_stays_in_place() -> None:
    columns = np.random.default_rng(3).random((14, 10))
    assert best_order(columns, seconds=0.05).order[12:].tolist() == [12, 13]
    assert best_order(columns[:6], seconds=0.1).order.tolist() == list(range(6))
    assert best_order(np.zeros((16, 3)), seconds=0.1).order.tolist() == list(range(16))
