"""Places: the distinct axes on which classes have atoms. Slots that are linked as a whole are one place."""

from __future__ import annotations

import numpy as np

from onnxprune.coupling.atoms import FROZEN, Atoms, Links
from onnxprune.coupling.classes import Classes
from onnxprune.coupling.components import components
from onnxprune.coupling.runs import begins, distinct, numbered, ragged


class SlotGroups:
    """Slots joined by links of entire slots. `of[slot]` is the slot's group, `first[group]` the group's first slot."""

    def __init__(self, atoms: Atoms, links: Links) -> None:
        slots = atoms.slots
        self.start = np.fromiter((s.start for s in slots), np.int64, len(slots))
        self.size = np.fromiter((s.size for s in slots), np.int64, len(slots))
        pairs = np.asarray(links.wholes, np.int64).reshape(-1, 2)
        self.of = components(len(slots), pairs[:, 0], pairs[:, 1])
        groups = int(self.of.max()) + 1 if len(slots) else 0
        self.first = np.full(groups, -1, np.int64)
        self.first[self.of[::-1]] = np.arange(len(slots))[::-1]

    def labels(self, atoms: Atoms) -> tuple[np.ndarray, int]:
        """For each atom the number of its class, if nothing but these slots were linked, and how many classes.

        Classes are numbered in the order of their first atoms.
        """
        inner = np.asarray(atoms.inner, np.int64).reshape(-1, 2)
        start = np.concatenate([[FROZEN], self.start, inner[:, 0]])  # runs of atoms, which together are all
        size = np.concatenate([[1], self.size, inner[:, 1]])
        own = np.arange(len(start))
        base = own.copy()  # the run whose classes a run has
        base[1 : 1 + len(self.of)] = 1 + self.first[self.of]
        order = np.argsort(start, kind="stable")
        counted = np.where(base == own, size, 0)[order]
        number = np.empty(len(start), np.int64)
        number[order] = np.cumsum(counted) - counted
        label = np.repeat((number[base] - start)[order], size[order])
        label += np.arange(len(label))
        return label, int(counted.sum())


class Places:
    """Distinct (place, unfrozen class) pairs: `place`, `cls`, how many atoms (`count`), the first of them (`first`).

    Places 0..n-1 are the slot groups, those after them the axes that exist inside operators only. `still[place]` says
    whether an atom of it is frozen.
    """

    def __init__(self, atoms: Atoms, slots: SlotGroups, classes: Classes) -> None:
        inner = np.asarray(atoms.inner, np.int64).reshape(-1, 2)
        self.slots = slots
        self.number = len(slots.first) + len(inner)
        start = np.concatenate([slots.start[slots.first], inner[:, 0]])
        place, atom = ragged(start, np.concatenate([slots.size[slots.first], inner[:, 1]]))
        label = classes.label[atom]
        frozen = classes.frozen[label]
        self.still = np.bincount(place[frozen], minlength=self.number) > 0
        live = np.flatnonzero(~frozen)
        place, atom, label = place[live], atom[live], label[live]
        # A flat axis repeats its classes in long runs, which are counted before anything is sorted.
        key = place * len(classes) + label
        begin = begins(key)
        number, first = numbered(key[begin])
        self.place, self.cls = place[begin][first], label[begin][first]
        self.count = np.bincount(number, np.diff(np.append(begin, len(key))), len(first)).astype(np.int64)
        self.first = atom[begin][first]

    def of_slots(self) -> tuple[np.ndarray, np.ndarray]:
        """The pairs of every slot: slot, and the index of the pair of its place."""
        begin = np.searchsorted(self.place, np.arange(len(self.slots.first) + 1))
        return ragged(begin[self.slots.of], np.diff(begin)[self.slots.of])

    def touched(self, root: np.ndarray, below: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distinct (root, place) pairs, sorted: the places that a root or what goes with it (`below`) has atoms in."""
        order = np.argsort(self.cls, kind="stable")
        cls = self.cls[order]
        low = np.searchsorted(cls, below, "left")
        owner, index = ragged(low, np.searchsorted(cls, below, "right") - low)
        pairs = distinct(root[owner] * max(self.number, 1) + self.place[order][index])
        return pairs // max(self.number, 1), pairs % max(self.number, 1)
