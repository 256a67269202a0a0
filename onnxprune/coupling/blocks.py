"""Members and blocks of a group that may be balanced (see balance.py): which unit and block an atom belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from onnxprune.coupling.atoms import Atoms, Factor, Ids
from onnxprune.coupling.coupling import Site
from onnxprune.coupling.groups import Units
from onnxprune.coupling.runs import distinct, ragged
from onnxprune.coupling.solve import Solution

NONE, SEVERAL = -1, -2
_SEED = 20231117  # words of a hash; any seed will do, a fixed one makes results repeatable


class Axes:
    """All axes there are: first the slots, then those that exist inside operators only, as runs of atoms."""

    def __init__(self, atoms: Atoms) -> None:
        runs = np.asarray([(s.start, s.size) for s in atoms.slots] + atoms.inner, np.int64).reshape(-1, 2)
        self.start, self.size = runs[:, 0], runs[:, 1]
        self._order = np.argsort(self.start, kind="stable")
        self._sorted = self.start[self._order]

    def atoms(self, axis: int) -> Ids:
        return np.arange(self.start[axis], self.start[axis] + self.size[axis])

    def of(self, ids: Ids) -> np.ndarray:
        """The axis of each atom; -1 for the atom that is always frozen."""
        found = np.searchsorted(self._sorted, ids, "right") - 1
        return np.where(found < 0, NONE, self._order[np.maximum(found, 0)])


def coordinates(factor: Factor) -> tuple[np.ndarray, ...]:
    """For each index of the flat axis its place on each part."""
    return np.unravel_index(np.arange(len(factor.flat)), factor.shape)


class Roots:
    """The roots that classes go with, looked up by class; `word[class]` are random numbers to tell classes apart."""

    def __init__(self, units: Units) -> None:
        self.units, self.bunch = units, units.solution.bunch
        order = np.argsort(units.below, kind="stable")
        self._below, self._root = units.below[order], units.root[order]
        self.word = np.random.default_rng(_SEED).integers(1, 2**63, units.solution.classes, dtype=np.uint64)
        self._bunches: dict[bytes, frozenset[int]] = {}

    def of(self, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Index into `classes` and root, for each root that a class goes with."""
        low, high = (np.searchsorted(self._below, classes, side) for side in ("left", "right"))
        owner, at = ragged(low, high - low)
        return owner, self._root[at]

    def bunches(self, classes: np.ndarray) -> frozenset[int]:
        """The bunches of all roots that these classes go with."""
        key = classes.tobytes()
        if key not in self._bunches:
            _, roots = self.of(distinct(classes))
            self._bunches[key] = frozenset(distinct(self.bunch[roots]).tolist())
        return self._bunches[key]


class Members:
    """The units of a group: `of_class[class]` is the unit that the class goes with, -1 for none, -2 for several.

    `word[class]` tells apart what else the class goes with.
    """

    def __init__(self, lookup: Roots, roots: np.ndarray) -> None:
        units = lookup.units
        self.roots = roots
        self.of_class = _owner(units, roots)
        classes = np.flatnonzero(self.of_class != NONE)
        owner, root = lookup.of(classes)
        other = lookup.bunch[root] != lookup.bunch[roots[0]]
        self.word = np.zeros(len(self.of_class), np.uint64)
        np.add.at(self.word, classes[owner[other]], lookup.word[root[other]])

    def __len__(self) -> int:
        return len(self.roots)

    def any_among(self, classes: np.ndarray) -> bool:
        return bool((self.of_class[classes] != NONE).any())


@dataclass
class Blocks:
    """A candidate for what the blocks are: `count` of them, of the roots of `bunch`, or (-1) of an axis that stays."""

    bunch: int
    count: int
    of_class: np.ndarray
    of_atom: np.ndarray | None = None

    @classmethod
    def of_roots(cls, units: Units, bunch: int) -> Blocks:
        """The roots of a bunch, in order of their numbers."""
        roots = np.flatnonzero(units.solution.bunch == bunch)
        return cls(bunch, len(roots), _owner(units, roots))

    @classmethod
    def of_frozen(cls, solution: Solution, label: np.ndarray, sites: Iterable[Site], atoms: Atoms) -> Blocks | None:
        """The distinct frozen classes `label` of one axis, in its order; None where an index would be in two blocks.

        Nothing goes with what is frozen, so that a flat index is of the class of its member alone. Which block it is
        in is read off the products that make it flat, and spreads over what is linked to it in `sites`.
        """
        of_class = np.full(solution.classes, NONE, np.int64)
        of_class[label] = np.arange(len(label))
        of_atom = of_class[solution.label]
        flows = [flow for site in sites for flow in _flows(site, atoms)]
        changed = True
        while changed:
            changed = False
            for into, source in flows:
                old, new = of_atom[into], of_atom[source]
                if ((old != new) & (old != NONE) & (new != NONE)).any():
                    return None
                open_ = (old == NONE) & (new != NONE)
                if open_.any():
                    of_atom[into[open_]] = new[open_]
                    changed = True
        return cls(NONE, len(label), of_class, of_atom)

    def of(self, ids: Ids, label: np.ndarray) -> np.ndarray:
        """The block of each atom; -1 for none, -2 for several."""
        return np.asarray(self.of_class[label[ids]] if self.of_atom is None else self.of_atom[ids])


def whole(atoms: Atoms, slot: int) -> Ids:
    """The atoms of a slot."""
    found = atoms.slots[slot]
    return np.arange(found.start, found.start + found.size)


def links_of(site: Site, atoms: Atoms) -> Iterator[tuple[Ids, Ids]]:
    """What a site's rule linked pairwise."""
    yield from ((whole(atoms, a), whole(atoms, b)) for a, b in site.recorded.wholes)
    yield from site.recorded.edges


def _flows(site: Site, atoms: Atoms) -> Iterator[tuple[Ids, Ids]]:
    """(atoms, atoms that they lie in the same block as): links both ways, and from parts to their product."""
    for a, b in links_of(site, atoms):
        yield a, b
        yield b, a
    for factor in site.recorded.factors:
        for part, place in zip(factor.parts, coordinates(factor), strict=True):
            yield factor.flat, part[place]


def _owner(units: Units, roots: np.ndarray) -> np.ndarray:
    """Per class the place among `roots` of the one that it goes with; -1 for none, -2 for several."""
    low, high = (np.searchsorted(units.root, roots, side) for side in ("left", "right"))
    owner, at = ragged(low, high - low)
    found = np.full(units.solution.classes, NONE, np.int64)
    found[units.below[at]] = owner
    found[np.bincount(units.below[at], minlength=len(found)) > 1] = SEVERAL
    return found
