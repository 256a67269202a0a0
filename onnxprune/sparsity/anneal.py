"""Search for an order of many columns: simulated annealing, in rounds of swaps between pairs of groups.

In each round the groups are paired at random, and of every pair one of its 16 swaps, or none, is drawn with
probabilities that follow from their exact gains and the temperature (heat-bath sampling). Pairs are disjoint, so that
gains add; a round looks at 16 columns for each pair, which is less than what one swap costs where the gains of all
swaps are kept. The temperature falls until the deadline, but not so far that no loss is taken.
"""

from __future__ import annotations

import time

import numpy as np

from onnxprune.sparsity.groups import GROUP, terms

HOT, COLD = 0.10, 0.04
"""Temperatures at the beginning and the end, in standard deviations of a column's sum of independent scores."""

_SWAPS = GROUP * GROUP
_CHUNK = 1 << 17  # sums of two that are looked at at a time: what stays in the cache
_GUMBEL = 1e-12


def annealed(scores: np.ndarray, rng: np.random.Generator, started: float, deadline: float) -> np.ndarray:
    """An order (int64) of scores [columns, rows] float32, columns a multiple of 4; times as time.perf_counter's."""
    state = _State(scores)
    scale = float(scores.std()) * scores.shape[1] ** 0.5
    while (now := time.perf_counter()) < deadline:
        passed = (now - started) / (deadline - started)
        state.round(rng, HOT * (COLD / HOT) ** passed * scale)
    return state.best()


class _State:
    """An order, and by group what `terms` gives."""

    def __init__(self, scores: np.ndarray) -> None:
        self._groups, rows = len(scores) // GROUP, scores.shape[1]
        self._order = np.arange(len(scores)).reshape(-1, GROUP)
        self._placed = scores.reshape(self._groups, GROUP, rows).copy()
        self._kept, self._a = np.empty(self._groups, np.float32), np.empty((self._groups, GROUP), np.float32)
        self._b = np.empty_like(self._placed)
        self._ones = np.ones(rows, np.float32)
        self._step = max(1, _CHUNK // (_SWAPS * rows))
        self._buffer = np.empty((self._step, GROUP, GROUP, rows), np.float32)
        self._refresh(np.arange(self._groups))
        self._best, self._best_order = self._sum(), self._order.copy()

    def _sum(self) -> float:
        return float(self._kept.sum(dtype=np.float64))

    def best(self) -> np.ndarray:
        """The better one of the order that it began with and that of now."""
        return (self._order if self._sum() > self._best else self._best_order).reshape(-1)

    def round(self, rng: np.random.Generator, temperature: float) -> None:
        """Pair groups, and swap."""
        shuffled = rng.permutation(self._groups)
        half = self._groups // 2
        left, right = shuffled[:half], shuffled[half : 2 * half]
        chances = np.zeros((half, _SWAPS + 1), np.float32)  # the last is no swap at all
        for start in range(0, half, self._step):
            some = slice(start, start + self._step)
            chances[some, :_SWAPS] = self._gains(left[some], right[some])
        drawn = rng.random(chances.shape, np.float32)
        chances -= np.float32(temperature) * np.log(_GUMBEL - np.log(drawn + np.float32(_GUMBEL)))
        chosen = chances.argmax(axis=1)
        swapped = np.flatnonzero(chosen < _SWAPS)
        if len(swapped):
            at, other = np.divmod(chosen[swapped], GROUP)
            self._swap(left[swapped], right[swapped], at, other)

    def _gains(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """What each swap of a pair gains, [pairs, 16]."""
        count, rows = len(left), len(self._ones)
        buffer = self._buffer[:count]
        flat = buffer.reshape(-1, rows)
        np.maximum(self._b[left][:, :, None], self._placed[right][:, None], out=buffer)
        gains = flat @ self._ones
        np.maximum(self._b[right][:, None], self._placed[left][:, :, None], out=buffer)
        gains += flat @ self._ones
        gains = gains.reshape(count, GROUP, GROUP)
        gains += self._a[left][:, :, None] + self._a[right][:, None]
        gains -= (self._kept[left] + self._kept[right])[:, None, None]
        return np.asarray(gains.reshape(count, _SWAPS))

    def _swap(self, left: np.ndarray, right: np.ndarray, at: np.ndarray, other: np.ndarray) -> None:
        self._order[left, at], self._order[right, other] = self._order[right, other], self._order[left, at]
        moved = self._placed[left, at]
        self._placed[left, at] = self._placed[right, other]
        self._placed[right, other] = moved
        self._refresh(np.concatenate([left, right]))

    def _refresh(self, groups: np.ndarray) -> None:
        for start in range(0, len(groups), 4 * self._step):
            some = groups[start : start + 4 * self._step]
            self._kept[some], self._a[some], self._b[some] = terms(self._placed[some])
