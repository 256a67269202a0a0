"""Search for an order of few columns: tabu search from several orders side by side, all gains at hand.

For column i of a group let a be the largest and b the second largest score of the group's other columns, per row. With
column j in i's place the group keeps the sum over rows of a + max(b, w_j). So one matrix, M[i, j] = sum of max(b_i,
w_j), gives the gain of every swap, and a swap changes only the rows of M of the two groups that it touches.

The best swap is taken, for the worse, too, and one of its two columns then stays for some steps. Numpy's calls cost
more than what they do for one order of 64 columns, so several orders take their steps together.

Glover, "Tabu Search - Part I", ORSA Journal on Computing 1989.
"""

from __future__ import annotations

import time

import numpy as np

from onnxprune.sparsity.groups import GROUP, terms

_SEARCHES = 8
_STEPS = 100  # between two looks at which searches have come to nothing
_LOST = 300  # steps without a better order, after which a search starts anew
_STAYS = (2, 6)  # steps, from and below
_CHUNK = 1 << 17  # sums of two that are looked at at a time: what stays in the cache
_EVEN = 1e-7  # of what is kept: no gain


def searched(scores: np.ndarray, rng: np.random.Generator, deadline: float) -> np.ndarray:
    """The best order (int64) found for scores [columns, rows] float32, columns a multiple of 4.

    Ends at the deadline, a time as time.perf_counter's, or where a long while has brought nothing.
    """
    searches = Searches(scores, rng)
    idle, best = 0, searches.best
    while time.perf_counter() < deadline and idle < max(4, len(scores) // 4):
        searches.advance(_STEPS, deadline)
        idle, best = (0, searches.best) if searches.best > best else (idle + 1, best)
        searches.restart_lost()
    return searches.best_order


class Searches:
    """Orders [searches, columns] on their way, the first from the given one and the others from random ones.

    All is by search and place: `change[s, p, q]` is what group p // 4 gains when the column of place q comes to place
    p, `gains[s, p, q]` what a swap gains, -inf within a group. `best` is what `best_order` keeps, of all searches.
    """

    def __init__(self, scores: np.ndarray, rng: np.random.Generator, count: int = _SEARCHES) -> None:
        columns = len(scores)
        self._scores, self._rng, self._columns, self._groups = scores, rng, columns, columns // GROUP
        self._each = np.arange(count)
        self.order = np.stack([np.arange(columns), *(rng.permutation(columns) for _ in range(count - 1))])
        self._placed = scores[self.order]
        self.kept = np.zeros((count, self._groups), np.float32)
        self.change = np.zeros((count, columns, columns), np.float32)
        self.gains = np.zeros((count, columns, columns), np.float32)
        self._buffer = np.empty((max(1, _CHUNK // scores.size), *scores.shape), np.float32)
        self._until = np.zeros((count, columns), np.int64)  # by column: the step from which on it may go again
        self._step = 0
        self._own, self._since = np.full(count, -np.inf), np.zeros(count, np.int64)
        self.best = -np.inf
        self.best_order: np.ndarray = self.order[0].copy()
        self._refresh(self._each, np.tile(np.arange(self._groups), (count, 1)))
        self._remember()

    def advance(self, steps: int, deadline: float) -> None:
        """So many swaps of each search, unless the deadline comes before."""
        for _ in range(steps):
            if time.perf_counter() > deadline:
                break
            chosen = self._chosen()
            p, q = np.divmod(chosen, self._columns)
            stays = np.where(self._rng.integers(0, 2, len(p)), p, q)
            waits = self._rng.integers(*_STAYS, len(p))
            self._step += 1
            self._until[self._each, self.order[self._each, stays]] = self._step + waits
            self.swap(p, q)
            self._remember()

    def restart_lost(self) -> None:
        """Start those searches anew that have found nothing better in a long while."""
        lost = np.flatnonzero(self._step - self._since >= _LOST)
        if not len(lost):
            return
        for search in lost.tolist():
            self.order[search] = self._rng.permutation(self._columns)
            self._placed[search] = self._scores[self.order[search]]
        self._own[lost], self._since[lost], self._until[lost] = -np.inf, self._step, 0
        self._refresh(lost, np.tile(np.arange(self._groups), (len(lost), 1)))
        self._remember()

    def swap(self, p: np.ndarray, q: np.ndarray) -> None:
        """In each search s swap places p[s] and q[s], of different groups."""
        each = self._each[:, None]
        both, other = np.stack([p, q], axis=1), np.stack([q, p], axis=1)
        self.order[each, both] = self.order[each, other]
        self._placed[each, both] = self._placed[each, other]
        self.change[each, :, both] = self.change[each, :, other]
        self._refresh(self._each, both // GROUP)

    def _chosen(self) -> np.ndarray:
        """Each search's best swap: of columns that may go, or of all where that is better than ever."""
        flat = self.gains.reshape(len(self._each), -1)
        chosen = flat.argmax(axis=1)
        usual = self._now + flat[self._each, chosen] <= self._own * (1 + _EVEN)
        stays = self._until[self._each[:, None], self.order] > self._step
        for search in np.flatnonzero(usual & stays.any(axis=1)).tolist():
            gains = self.gains[search].copy()
            gains[stays[search]] = -np.inf
            gains[:, stays[search]] = -np.inf
            chosen[search] = gains.argmax()
        return np.asarray(chosen)

    def _remember(self) -> None:
        self._now = self.kept.sum(axis=1, dtype=np.float64)
        better = self._now > self._own
        self._own[better], self._since[better] = self._now[better], self._step
        first = int(self._now.argmax())
        if self._now[first] > self.best:
            self.best, self.best_order = float(self._now[first]), self.order[first].copy()

    def _refresh(self, searches: np.ndarray, groups: np.ndarray) -> None:
        """Bring what is known of groups [searches, groups of each] up to date."""
        each = searches[:, None]
        members = groups[:, :, None] * GROUP + np.arange(GROUP)
        places = members.reshape(len(groups), -1)
        kept, a, b = terms(self._placed[each[:, :, None], members])
        self.kept[each, groups] = kept
        change = (a - kept[:, :, None]).reshape(*places.shape, 1) + self._met(searches, b)
        self.change[each, places] = change
        change += self.change[each, :, places]
        own = (groups * GROUP).repeat(GROUP, axis=1)[:, :, None] + np.arange(GROUP)
        np.put_along_axis(change, own, -np.inf, axis=2)
        self.gains[each, places] = change
        self.gains[each, :, places] = change

    def _met(self, searches: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Sums of max(b_p, w_q) over rows, b [searches, groups, 4, rows] of members: [searches, members, places]."""
        rows = b.shape[-1]
        flat = b.reshape(len(b), -1, 1, rows)
        found = np.empty((*flat.shape[:2], self._columns), np.float32)
        step, ones = len(self._buffer), np.ones(rows, np.float32)
        for at, search in enumerate(searches.tolist()):
            for start in range(0, flat.shape[1], step):
                some = flat[at, start : start + step]
                larger = np.maximum(some, self._placed[search], out=self._buffer[: len(some)])
                np.matmul(larger, ones, out=found[at, start : start + step])
        return found
