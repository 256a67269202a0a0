"""Search for an order of columns in which N:M keeps more: swaps, every gain exact.

For column i of a group let a be the largest and b the second largest score of the group's other columns, per row. With
column j in i's place the group keeps the sum over rows of a + max(b, w_j). So one matrix, M[i, j] = sum of max(b_i,
w_j), gives the gain of every swap, and a swap changes only the rows of M of the two groups that it touches. That is for
2:4; the search serves no other pattern. Few columns are searched by tabu search with all gains at hand, many by
annealing (anneal.py). Pool and Yu 2021 (NVIDIA's ASP) search the same swaps with a GPU's help.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from onnxprune.sparsity.anneal import annealed
from onnxprune.sparsity.groups import GROUP, kept_by_2_4, terms

_SMALL = 160  # columns up to which several searches run side by side
_SIDE_BY_SIDE = 8
_STEPS = 300
_LEAST = 1e-6  # of what a group keeps: what a swap gains at least
_CHUNK = 1 << 18
_SPEED = 1e9  # sums of two that are looked at in a second, at the least
_ROUNDS = 200  # of annealing, at the least
_LEAST_ROWS = 64


@dataclass(frozen=True)
class Order:
    """`order[i]` is the column that comes to place i; `before` and `after` what 2:4 keeps of the scores."""

    order: np.ndarray
    before: float
    after: float


def best_order(columns: np.ndarray, seconds: float = 1.0, seed: int = 0) -> Order:
    """The best order found in that time for scores [columns, rows], not negative. What fills no group stays in place.

    The same seed searches the same way; how far it gets depends on the time. Never worse than no change.
    """
    started = time.perf_counter()
    count = len(columns)
    whole = count // GROUP * GROUP
    identity = np.arange(count)
    before = kept_by_2_4(columns)
    if whole < 2 * GROUP or not columns.any():
        return Order(identity, before, before)
    rng = np.random.default_rng(seed)
    rows = max(_LEAST_ROWS, int(seconds * _SPEED / (whole * _SMALL if whole <= _SMALL else _ROUNDS * 4 * whole)))
    if columns.shape[1] > rows:  # the search would hardly begin with all of them
        columns_seen = columns[:whole, np.sort(rng.choice(columns.shape[1], rows, replace=False))]
    else:
        columns_seen = columns[:whole]
    scores = np.ascontiguousarray(columns_seen, np.float32)
    order = np.concatenate([_searched(scores, rng, started, started + seconds), identity[whole:]])
    after = kept_by_2_4(columns[order])
    return Order(order, before, after) if after > before else Order(identity, before, before)


def _searched(scores: np.ndarray, rng: np.random.Generator, started: float, deadline: float) -> np.ndarray:
    """Of many columns by annealing; else tabu search from several orders in turn.

    That ends, time or not, where a long while has brought nothing.
    """
    if len(scores) > _SMALL:
        return annealed(scores, rng, started, deadline)
    first = _Search(scores, np.arange(len(scores)), rng)
    first.descend(deadline)
    idle, best = 0, first.best
    first.tabu(_STEPS, deadline)
    searches = [first]
    turn, patience = 0, max(4, len(scores) // 3)
    while time.perf_counter() < deadline and idle < patience:
        if len(searches) < _SIDE_BY_SIDE:
            search = _Search(scores, rng.permutation(len(scores)), rng)
            search.descend(deadline)
            searches.append(search)
        else:
            search = searches[turn % len(searches)]
            turn += 1
        search.tabu(_STEPS, deadline)
        idle, best = (0, search.best) if search.best > best else (idle + 1, best)
    return max(searches, key=lambda search: search.best).best_order


def _met(b: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Sums of max(b_i, w_j) over rows, [i, j], a part at a time that stays in the cache."""
    found, ones = np.empty((len(b), len(scores)), np.float32), np.ones(scores.shape[1], np.float32)
    step = max(1, _CHUNK // scores.size)
    for start in range(0, len(b), step):
        larger = np.maximum(b[start : start + step, None], scores[None])
        found[start : start + step] = larger @ ones
    return found


class _Search:
    """One search from one order. All is by place: `_change[p, q]` is what group p // 4 gains when the column of place q
    comes to place p, `_gains[p, q]` what a swap gains, -inf within a group.
    """

    def __init__(self, scores: np.ndarray, order: np.ndarray, rng: np.random.Generator) -> None:
        count = len(scores)
        self._rng, self._count, self._groups = rng, count, count // GROUP
        self.order, self._placed = order.copy(), scores[order]
        self._kept = np.zeros(self._groups, np.float32)
        self._change = np.zeros((count, count), np.float32)
        self._gains = np.zeros((count, count), np.float32)
        self._refresh(np.arange(self._groups))
        self.best, self.best_order = float(self._kept.sum(dtype=np.float64)), order.copy()

    def _refresh(self, groups: np.ndarray) -> None:
        """Bring what is known of these groups up to date."""
        places = (groups[:, None] * GROUP + np.arange(GROUP)).reshape(-1)
        kept, a, b = terms(self._placed[places].reshape(len(groups), GROUP, -1))
        self._kept[groups] = kept
        change = _met(b.reshape(len(places), -1), self._placed)
        change += (a - kept[:, None]).reshape(-1, 1)
        self._change[places] = change
        gains = change + self._change[:, places].T
        gains[np.arange(len(places))[:, None], (places // GROUP * GROUP)[:, None] + np.arange(GROUP)] = -np.inf
        self._gains[places] = gains
        self._gains[:, places] = gains.T

    def _swap(self, p: np.ndarray, q: np.ndarray) -> None:
        """Swap places p[k] and q[k], of groups that are all different."""
        both, other = np.concatenate([p, q]), np.concatenate([q, p])
        self.order[both] = self.order[other]
        self._placed[both] = self._placed[other]
        self._change[:, both] = self._change[:, other]
        self._refresh(both // GROUP)

    def _remember(self) -> float:
        now = float(self._kept.sum(dtype=np.float64))
        if now > self.best:
            self.best, self.best_order = now, self.order.copy()
        return now

    def descend(self, deadline: float) -> None:
        """Swap pairs of groups that are each other's best, all such at once, until no swap gains anything."""
        group = np.arange(self._groups)
        while time.perf_counter() < deadline:
            gains = self._gains.reshape(self._groups, GROUP, self._groups, GROUP)
            pairs = gains.max(axis=(1, 3))
            partner = pairs.argmax(axis=1)
            worth = pairs[group, partner] > _LEAST * self._kept.mean()
            mine = np.flatnonzero((partner[partner] == group) & worth & (group < partner))
            if not len(mine):
                break
            at = gains[mine, :, partner[mine], :].reshape(len(mine), -1).argmax(axis=1)
            self._swap(mine * GROUP + at // GROUP, partner[mine] * GROUP + at % GROUP)
        self._remember()

    def tabu(self, steps: int, deadline: float) -> None:
        """Best swaps one at a time, for the worse too; one of the two columns stays for some steps."""
        until = np.zeros(self._count, np.int64)
        waits = self._rng.integers(2, 6, steps)
        sides = self._rng.integers(0, 2, steps)
        now = self._remember()
        for step in range(steps):
            if time.perf_counter() > deadline:
                break
            chosen = int(self._gains.argmax())
            if now + self._gains.flat[chosen] <= self.best * (1 + 1e-7):
                stays = until[self.order] > step
                gains = self._gains.copy()
                gains[stays] = -np.inf
                gains[:, stays] = -np.inf
                chosen = int(gains.argmax())
            p, q = divmod(chosen, self._count)
            until[self.order[(p, q)[sides[step]]]] = step + waits[step]
            self._swap(np.asarray([p]), np.asarray([q]))
            now = self._remember()
