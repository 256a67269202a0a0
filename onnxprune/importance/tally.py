"""From numbers along axes to numbers per unit: of what it has at several places the sum, the mean or the largest.

A place is one axis of one tensor. What a unit has at a place (one index for a channel, 64 for a head) is summed; the
aggregation is over the places: the filter that makes a channel, its bias, the columns of those that read it.
"""

from __future__ import annotations

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.coupling.owners import Owners
from onnxprune.errors import SettingError
from onnxprune.importance.traits import Unscored

AGGREGATIONS = ("sum", "mean", "max")


def check_aggregation(name: str) -> None:
    """Raise SettingError unless there is an aggregation of that name."""
    if name not in AGGREGATIONS:
        raise SettingError(f"there is no aggregation {name!r}", remedy=f"there are: {', '.join(AGGREGATIONS)}")


class Tally:
    """Collects numbers place by place, and gives them per unit of every group."""

    def __init__(self, coupling: Coupling, aggregate: str = "sum") -> None:
        check_aggregation(aggregate)
        self._coupling, self._aggregate = coupling, aggregate
        sizes = [len(group.roots) for group in coupling.units.groups]
        self._ends = np.cumsum(sizes)[:-1] if sizes else np.empty(0, np.int64)
        self.owners = Owners.among(coupling.units, coupling.units.groups)
        self._total, self._places = np.zeros(sum(sizes)), np.zeros(sum(sizes), np.int64)

    def add(self, classes: np.ndarray, values: np.ndarray, outputs: np.ndarray | None = None) -> None:
        """Take in one place: `values` (float) of indices whose classes are `classes`.

        `outputs` [blocks, outputs of a block] are the classes of what equal blocks of the indices go into: where all
        of a block's outputs go with a unit, nothing of the unit is felt behind them, and its numbers do not count
        (a channel of a depthwise convolution).
        """
        owner, unit = self.owners.of(classes)
        if outputs is not None:
            felt = ~self.owners.swallowed(owner * len(outputs) // max(len(classes), 1), unit, outputs)
            owner, unit = owner[felt], unit[felt]
        count = len(self._total)
        here = np.bincount(unit, values[owner], count)
        if self._aggregate == "max":
            there = np.bincount(unit, minlength=count) > 0
            first = self._places == 0
            self._total = np.where(there & (first | (here > self._total)), here, self._total)
        else:
            self._total += here
        self._places += np.bincount(unit, minlength=count) > 0

    def by_group(self, why: str | None = None) -> list[np.ndarray | Unscored]:
        """Per group one number per unit (float64). With `why`, groups none of which was at any place are Unscored."""
        total = self._total / np.maximum(self._places, 1) if self._aggregate == "mean" else self._total
        found: list[np.ndarray | Unscored] = []
        if not self._coupling.units.groups:
            return found
        parts = zip(np.split(total, self._ends), np.split(self._places, self._ends), strict=True)
        for values, places in parts:
            found.append(Unscored(why) if why is not None and not places.any() else values)
        return found
