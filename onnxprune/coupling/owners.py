"""Which units take a class along: a class goes with every unit that is, or stands above, one of its parents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxprune.coupling.groups import UnitGroup, Units
from onnxprune.coupling.runs import ragged


@dataclass(frozen=True)
class Owners:
    """Pairs of a class and a unit that takes it along, sorted by class; units are numbered from 0 through groups."""

    classes: np.ndarray
    units: np.ndarray
    count: int

    @classmethod
    def among(cls, units: Units, groups: Sequence[UnitGroup]) -> Owners:
        """Of the units of these groups, numbered one group after the other."""
        roots = np.concatenate([np.empty(0, np.int64), *(group.roots for group in groups)])
        number = np.full(units.solution.classes, -1, np.int64)
        number[roots] = np.arange(len(roots))
        unit = number[units.root]
        pairs = np.flatnonzero(unit >= 0)
        order = pairs[np.argsort(units.below[pairs], kind="stable")]
        return cls(units.below[order], unit[order], len(roots))

    def of(self, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The units that take a class along: the index into `classes`, and the unit."""
        low = np.searchsorted(self.classes, classes, "left")
        index, pair = ragged(low, np.searchsorted(self.classes, classes, "right") - low)
        return index, self.units[pair]

    def swallowed(self, block: np.ndarray, unit: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Of pairs of a block and a unit (bool): whether all of the block's outputs go with the unit.

        `outputs` [blocks, outputs of a block] are the outputs' classes. Nothing of such a unit is felt behind them (a
        channel of a depthwise convolution).
        """
        index, taker = self.of(outputs.reshape(-1))
        keys, times = np.unique(index // outputs.shape[1] * self.count + taker, return_counts=True)
        return np.isin(block * self.count + unit, keys[times == outputs.shape[1]])
