"""Groups whose units can all change places without changing what the model computes.

The channels between two layers can come in any order, as long as all that holds them comes in the same. That is the
exchange of balanced groups (exchange.py) with everything in one block, proved node by node in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnxprune.coupling.atoms import Ids
from onnxprune.coupling.blocks import NONE, Axes, Blocks, Members, Roots
from onnxprune.coupling.coupling import Coupling
from onnxprune.coupling.exchange import Exchange
from onnxprune.coupling.placing import NotExchangeable, Placing, place


@dataclass(frozen=True)
class Permutable:
    """Group number `group`, of `members` units; `placings` says for each slot of a stored tensor where they are."""

    group: int
    members: int
    placings: dict[int, Placing]
    _of_class: np.ndarray
    _word: np.ndarray

    def tables(self, classes: np.ndarray) -> tuple[np.ndarray, ...]:
        """Of an axis whose indices have these classes: arrays [cells, members, repeats] of the indices of each unit.

        Units change places within every cell. Empty where the axis has none of them.
        """
        nothing = np.zeros(len(classes), np.int64)
        placing = place(self._of_class[classes], nothing, self._word[classes], self.members)
        return () if placing is None else tuple(table for table, _ in placing.tables)


def find_permutable(coupling: Coupling) -> tuple[dict[int, Permutable], dict[int, str]]:
    """The groups whose units can change places, by index, and of the others the reason why they cannot."""
    found: dict[int, Permutable] = {}
    reasons: dict[int, str] = {}
    roots, axes = Roots(coupling.units), Axes(coupling.atoms)
    touching = _sites_by_slot(coupling)
    for index, group in enumerate(coupling.units.groups):
        members = Members(roots, group.roots)
        one = Blocks(NONE, 1, np.zeros(coupling.solution.classes, np.int64))
        exchange = Exchange(coupling, axes, members, one)
        slots = group.slots.tolist()
        try:
            for slot in slots:
                name = coupling.atoms.slots[slot].tensor
                if (name in coupling.view.inputs or coupling.view.leaves(name)) and exchange.axis(slot).placing:
                    raise NotExchangeable(f"{name} is seen from outside")
            for site in sorted({site for slot in slots for site in touching.get(slot, ())}):
                exchange.check(coupling.sites[site])
            placings = exchange.placings(slots)
        except NotExchangeable as reason:
            reasons[index] = str(reason)
        else:
            found[index] = Permutable(index, len(members), placings, members.of_class, members.word)
    return found, reasons


def _sites_by_slot(coupling: Coupling) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for index in range(len(coupling.sites)):
        for slot in set(_slots(coupling, index)):
            found.setdefault(slot, []).append(index)
    return found


def _slots(coupling: Coupling, site: int) -> Iterator[int]:
    for operand in coupling.sites[site].node.operands:
        for axis in range(operand.rank):
            slot = coupling.atoms.slot_at(operand.key, axis)
            if slot is not None:
                yield slot


def classes_at(coupling: Coupling, node: int, position: int, axis: int) -> np.ndarray | None:
    """The class of each index of an axis of a node's input; None where nobody traces it."""
    operand = coupling.sites[node].node.inputs[position]
    slot = None if operand is None else coupling.atoms.slot_at(operand.key, axis)
    if slot is None:
        return None
    at = coupling.atoms.slots[slot]
    ids: Ids = np.arange(at.start, at.start + at.size)
    return np.asarray(coupling.solution.label[ids])
