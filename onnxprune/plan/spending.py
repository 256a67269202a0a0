"""The plan that loses least for what it saves: units go where a microsecond, a MAC or a byte costs least importance.

The search knows of a choice only what losing units means for the model (`losses`, an array by number of units kept)
and what it costs to keep them (`Costs`), wherever the two come from.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.plan.choices import Choice
from onnxprune.plan.costs import Costs, Counts
from onnxprune.plan.limits import Limit, unreachable

_LEVELS = 32  # that a group is looked at in, at most: 1,536 hidden units go in steps of 48
_AHEAD = (1, 2, 4)  # levels that a step may take at once: costs fall in stairs


def kept_share(choice: Choice, readers: int) -> np.ndarray:
    """The default loss of a choice (float64 by number of units kept): minus the logarithm of the importance kept.

    What several groups keep of a signal multiplies as it passes them, so that these losses add up; and the last units
    of a group weigh more than the first, which keeps a search from emptying a layer. It counts once for each of the
    `readers` that sum over the units: a residual stream is read by every block.
    """
    scores = np.maximum(choice.scores[choice.best_first], 0).astype(float)
    total = scores.sum()
    if not total > 0:
        return np.zeros(len(scores) + 1)
    share = np.concatenate([[0.0], scores.cumsum() / total])
    return np.asarray(-max(readers, 1) * np.log(np.clip(share, 1e-12, 1.0)))


def readers(coupling: Coupling, choices: Sequence[Choice]) -> list[int]:
    """For each choice how many nodes sum over its units."""
    by_slot: dict[int, set[int]] = {}
    for node, position, axis, _ in coupling.links.contracts:
        operand = coupling.sites[node].node.inputs[position]
        slot = None if operand is None else coupling.atoms.slot_at(operand.key, axis)
        if slot is not None:
            by_slot.setdefault(slot, set()).add(node)
    return [
        len(set().union(*(by_slot.get(s, ()) for s in coupling.unit_group(c.group.index).slots.tolist())))
        for c in choices
    ]


class Spender:
    """Spends importance: `losses[k][n]` is what keeping n units of choice k loses, 0 for all of them.

    After the choices come residual blocks that may go: `blocks[b]` is what is lost without one.
    """

    def __init__(
        self, choices: Sequence[Choice], losses: Sequence[np.ndarray], costs: Costs, blocks: Sequence[float] = ()
    ) -> None:
        self._losses = [*losses, *(np.array([loss, 0.0]) for loss in blocks)]
        self._costs = costs
        self._levels = [*map(_levels, choices), *([0] for _ in blocks)]

    def within(self, limits: Sequence[Limit], start: Counts) -> Counts:
        """How many units of each choice stay, from `start` down, within all limits.

        Steps are taken by the least loss for what they save, as shares of what is too much; then those that turn out
        not to be needed are taken back, the dearest first. Raises BudgetError where the limits are out of reach.
        """
        counts = list(start)
        steps: list[tuple[int, int, int]] = []  # choice, from, to
        queue: list[tuple[float, int, int]] = []
        open_limits = self._open(limits, start)
        weights = {limit.quantity: 1 / limit.amount for limit in open_limits}
        for k in range(len(counts)):
            self._offer(queue, counts, k, weights)
        while open_limits:
            if not queue:
                least = tuple(
                    levels[-1] if levels else count for levels, count in zip(self._levels, counts, strict=True)
                )
                raise unreachable(open_limits, self._costs.at(least), self._costs.dense)
            _, k, _ = heapq.heappop(queue)
            found = self._best(counts, k, weights)
            if found is None:
                continue
            price, to = found
            if queue and price > queue[0][0]:  # others became cheaper than this one since it was looked at
                heapq.heappush(queue, (price, k, to))
                continue
            steps.append((k, counts[k], to))
            counts[k] = to
            still = self._open(limits, tuple(counts))
            if len(still) != len(open_limits):
                open_limits = still
                weights = {limit.quantity: 1 / limit.amount for limit in open_limits}
                queue = []
                for other in range(len(counts)):
                    self._offer(queue, counts, other, weights)
            else:
                self._offer(queue, counts, k, weights)
        return self._taken_back(counts, steps, limits)

    def _open(self, limits: Sequence[Limit], counts: Counts) -> list[Limit]:
        cost = self._costs.at(counts)
        return [limit for limit in limits if not limit.holds(cost)]

    def _offer(self, queue: list[tuple[float, int, int]], counts: list[int], k: int, weights: dict[str, float]) -> None:
        found = self._best(counts, k, weights)
        if found is not None:
            heapq.heappush(queue, (found[0], k, found[1]))

    def _best(self, counts: list[int], k: int, weights: dict[str, float]) -> tuple[float, int] | None:
        """The least loss per saving of choice k's next steps, and to how many units it goes; None at its minimum."""
        lower = [level for level in self._levels[k] if level < counts[k]]
        now = self._costs.steering(tuple(counts), weights)
        best: tuple[float, int] | None = None
        for ahead in _AHEAD:
            if ahead > len(lower):
                break
            to = lower[ahead - 1]
            saved = now - self._costs.steering((*counts[:k], to, *counts[k + 1 :]), weights)
            lost = float(self._losses[k][to] - self._losses[k][counts[k]])
            price = lost / saved if saved > 0 else math.inf
            if best is None or price < best[0]:
                best = price, to
        return best

    def _taken_back(self, counts: list[int], steps: list[tuple[int, int, int]], limits: Sequence[Limit]) -> Counts:
        def lost(step: tuple[int, int, int]) -> float:
            k, before, after = step
            return float(self._losses[k][after] - self._losses[k][before])

        last = {k: number for number, (k, _, _) in enumerate(steps)}
        for number, step in sorted(enumerate(steps), key=lambda item: -lost(item[1])):
            k, before, after = step
            if last[k] != number or counts[k] != after:  # a later step of this choice stands on it
                continue
            counts[k] = before
            if self._open(limits, tuple(counts)):
                counts[k] = after
        return tuple(counts)


def _levels(choice: Choice) -> list[int]:
    """The numbers of units that are looked at, from many to few."""
    if choice.ratio is not None:
        return []
    counts = choice.counts
    step = counts.step * max(1, math.ceil(counts.size / counts.step / _LEVELS))
    top = (counts.size - 1) // step * step
    return [
        *(n for n in range(top, counts.minimum, -step) if n < counts.size),
        *[counts.minimum] * (counts.minimum < counts.size),
    ]
