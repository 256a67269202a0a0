"""The order of stored tensors' indices after members of balanced groups have changed places (see balance.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.coupling.placing import Placing


@dataclass(frozen=True)
class Rows:
    """An axis that is taken differently along axis `by`: `indices` [length of by, n] for each index of `by`.

    `by` is counted, and its length is, as they are once all other axes were taken.
    """

    by: int
    indices: np.ndarray

    def __len__(self) -> int:
        return int(self.indices.shape[1])

    def tobytes(self) -> bytes:
        return self.by.to_bytes(2, "little") + self.indices.tobytes()


Kept = dict[int, np.ndarray | Rows]
"""Axis -> indices that stay (int64), in the order in which they come, for the axes that change."""


class Orders:
    """Which index comes to each place of the axes of stored tensors.

    `choices` gives for balanced groups (by index) an array [blocks, members]: for each block the member that comes to
    each place. Groups change places one after the other; each leaves what the model computes as it was. `placings` are
    those of groups that change places as a whole (see permuting.py), with one block each.
    """

    def __init__(
        self, coupling: Coupling, choices: Mapping[int, np.ndarray],
        placings: Mapping[int, Mapping[int, Placing]] | None = None,
    ) -> None:  # fmt: skip
        self._atoms = coupling.atoms
        # Places are looked up through the group that came last, which says where they were before it, and so on.
        known = {i: coupling.balance.balanced[i].placings for i in choices} if placings is None else placings
        self._steps = [(known[i], choices[i]) for i in sorted(choices, reverse=True)]

    def __contains__(self, slot: int) -> bool:
        """Whether the indices of a slot come in another order."""
        return any(slot in placings for placings, _ in self._steps)

    def compose(self, slots: Mapping[int, int], kept: Mapping[int, np.ndarray]) -> Kept:
        """What is to be taken of a stored tensor so that of the tensor in its new order the places `kept` stay.

        `slots` are its slots by axis, `kept` the places (sorted int64) of the axes that get shorter.
        """
        places = {axis: np.arange(self._atoms.slots[slot].size) for axis, slot in slots.items()}
        rows: dict[int, Rows] = {}
        for placings, choice in self._steps:
            for axis, placing in ((axis, placings[slot]) for axis, slot in slots.items() if slot in placings):
                order = placing.order(choice)
                if placing.by is not None:
                    by = next(a for a, slot in slots.items() if slot == placing.by[0])
                    block = placing.by[1][places[by]]
                    before = rows[axis].indices if axis in rows else places[axis]
                    rows[axis] = Rows(by, order[block[:, None], before])
                elif axis in rows:
                    rows[axis] = Rows(rows[axis].by, order[rows[axis].indices])
                else:
                    places[axis] = order[places[axis]]
        found: Kept = {}
        for axis, slot in slots.items():
            stay = kept.get(axis, slice(None))
            if axis in rows:
                by = rows[axis].by
                found[axis] = Rows(by, rows[axis].indices[kept.get(by, slice(None))][:, stay])
            elif axis in kept or slot in self:
                found[axis] = places[axis][stay]
        return found
