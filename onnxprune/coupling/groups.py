"""From solved classes to what a planner chooses from: units, and groups of units.

A unit is an unfrozen root class that owns (itself or through what goes with it) part of a stored tensor. A group is the
units that touch the same slots (and the same axes inside operators), at least two of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from onnxprune.coupling.atoms import Atoms, Ids
from onnxprune.coupling.solve import Solution


@dataclass
class UnitGroup:
    """`roots`: the class of each unit, in order of first appearance. `slots`: the slots that its units touch."""

    roots: np.ndarray
    slots: np.ndarray


class Units:
    """Units and groups of a solution. `root` and `below` are the pairs (unit's class, class that goes with it)."""

    def __init__(self, atoms: Atoms, solution: Solution, stored: Iterable[int]) -> None:
        self.atoms, self.solution = atoms, solution
        self.root, self.below = solution.root, solution.below
        self.groups = self._group(np.fromiter(stored, np.int64))

    def _group(self, stored: np.ndarray) -> list[UnitGroup]:
        solution, places = self.solution, self.solution.places
        toucher, place = places.touched(self.root, self.below)
        is_stored = np.zeros(places.number, bool)
        is_stored[places.slots.of[stored]] = True
        owning = np.zeros(solution.classes, bool)
        owning[toucher[is_stored[place]]] = True
        units = np.flatnonzero(owning)
        first = np.full(solution.classes, self.atoms.count)
        np.minimum.at(first, places.cls, places.first)
        earliest = np.full(solution.classes, self.atoms.count)
        np.minimum.at(earliest, self.root, first[self.below])
        units = units[np.argsort(earliest[units], kind="stable")]
        _, begins, bunch, sizes = np.unique(
            solution.bunch[units], return_index=True, return_inverse=True, return_counts=True
        )
        ends = np.cumsum(sizes)
        by_bunch = units[np.argsort(bunch, kind="stable")]
        groups = []
        for index in sorted(np.flatnonzero(sizes > 1).tolist(), key=lambda index: begins[index]):
            roots = by_bunch[ends[index] - sizes[index] : ends[index]]
            low, high = np.searchsorted(toucher, [roots[0], roots[0] + 1])
            mine = np.zeros(places.number, bool)
            mine[place[low:high]] = True
            groups.append(UnitGroup(roots, np.flatnonzero(mine[places.slots.of])))
        return groups

    @cached_property
    def _of_slots(self) -> tuple[np.ndarray, np.ndarray]:
        return self.solution.places.of_slots()

    @cached_property
    def slot(self) -> np.ndarray:
        """Distinct (slot, class) pairs of unfrozen classes: the slot. See `cls` and `count`."""
        return self._of_slots[0]

    @cached_property
    def cls(self) -> np.ndarray:
        """The class of each pair."""
        return np.asarray(self.solution.places.cls[self._of_slots[1]])

    @cached_property
    def count(self) -> np.ndarray:
        """How many atoms of the class the slot has."""
        return np.asarray(self.solution.places.count[self._of_slots[1]])

    def unit_totals(self, per_class: np.ndarray) -> np.ndarray:
        """Per class that is a root, the sum of `per_class` over all that goes with it."""
        total = np.zeros(self.solution.classes, per_class.dtype)
        np.add.at(total, self.root, per_class[self.below])
        return total

    def marked(self, ids: list[Ids]) -> np.ndarray:
        """Classes (bool) that have an atom among `ids`, and the roots of these classes."""
        found = np.zeros(self.solution.classes, bool)
        if ids:
            found[self.solution.label[np.concatenate(ids)]] = True
            found[self.root[found[self.below]]] = True
        return found
