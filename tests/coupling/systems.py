"""Random small systems of slots and links, and the brute force that the solver is compared with.

The brute force knows one thing only: which sets of atoms may go. A set is *valid* if atoms that are linked go
together, no frozen atom goes, and in every factor record an atom of the flat axis goes exactly when one of its
parts' atoms does. Everything is written out over Python sets of atoms, one atom at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from hypothesis import strategies as st

from onnxprune.coupling.atoms import Atoms, Ids, Link, Links
from onnxprune.coupling.groups import Units
from onnxprune.coupling.solve import Solution, solve

Removal = frozenset[int]


@dataclass
class System:
    """Slots `s0`, `s1`, ... all of which count as stored, and what was said of them through `Link`."""

    atoms: Atoms = field(default_factory=Atoms)
    links: Links = field(default_factory=Links)
    nodes: int = 0

    def slot(self, size: int) -> Ids:
        name = f"s{len(self.atoms.slots)}"
        return self.atoms.ids((name, -1, -1), 0, size)

    def link(self) -> Link:
        """A `Link` of a node of its own; what it records is taken over by `solve`."""
        made = Link(self.atoms, self.nodes, f"n{self.nodes}", "Op")
        made.recorded = self.links
        self.nodes += 1
        return made

    def solve(self) -> tuple[Solution, Units]:
        solution = solve(self.atoms, self.links)
        return solution, Units(self.atoms, solution, range(len(self.atoms.slots)))

    # -- the links, atom by atom ---------------------------------------------------------------------------------

    @property
    def array(self) -> list[Ids]:
        """Every slot's ids."""
        return [np.arange(s.start, s.start + s.size) for s in self.atoms.slots]

    def pairs(self) -> Iterator[tuple[int, int]]:
        slots = self.array
        for one, two in self.links.wholes:
            yield from zip(slots[one].tolist(), slots[two].tolist(), strict=True)
        for a, b in self.links.edges:
            yield from zip(a.tolist(), b.tolist(), strict=True)

    def rows(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Per factor record and flat index: the flat atom, and the parts' atoms at its coordinates."""
        for factor in self.links.factors:
            for flat, at in zip(factor.flat.tolist(), product(*(range(n) for n in factor.shape)), strict=True):
                yield flat, tuple(int(part[k]) for part, k in zip(factor.parts, at, strict=True))

    def frozen_atoms(self) -> set[int]:
        return {0} | {int(i) for ids, _ in self.links.frozen for i in ids}

    def is_valid(self, removed: set[int] | Removal) -> bool:
        return (
            not removed & self.frozen_atoms()
            and all((a in removed) == (b in removed) for a, b in self.pairs())
            and all((flat in removed) == any(p in removed for p in parts) for flat, parts in self.rows())
        )

    def empties(self, removed: set[int] | Removal) -> bool:
        """Whether a slot, or a part of a factor record, loses its last atom."""
        arrays = [*self.array, *(part for f in self.links.factors for part in f.parts)]
        return any(all(int(i) in removed for i in array) for array in arrays)

    # -- all that may go -----------------------------------------------------------------------------------------

    def classes(self) -> list[list[int]]:
        """Atoms joined by `same` alone, by naive union-find."""
        leader = list(range(self.atoms.count))

        def find(a: int) -> int:
            while leader[a] != a:
                a = leader[a]
            return a

        for a, b in self.pairs():
            leader[find(a)] = find(b)
        members: dict[int, list[int]] = {}
        for atom in range(self.atoms.count):
            members.setdefault(find(atom), []).append(atom)
        return list(members.values())

    def every_valid_removal(self, limit: int) -> list[Removal] | None:
        """All valid sets of atoms, the empty one included; None where there would be too many to try."""
        frozen = self.frozen_atoms()
        classes = [c for c in self.classes() if not frozen & set(c)]
        if len(classes) > limit:
            return None
        number = {atom: k for k, c in enumerate(classes) for atom in c}
        tests = [(number.get(flat), [number[p] for p in parts if p in number]) for flat, parts in self.rows()]
        every = np.arange(1 << len(classes), dtype=np.int64)
        ok = np.ones(len(every), bool)
        for flat, parts in tests:
            gone = np.zeros(len(every), bool)
            for p in parts:
                gone |= (every >> p & 1).astype(bool)
            ok &= gone == ((every >> flat & 1).astype(bool) if flat is not None else False)
        return [frozenset(a for k, c in enumerate(classes) if bits >> k & 1 for a in c) for bits in every[ok].tolist()]


def removed_atoms(system: System, solution: Solution, roots: Sequence[int]) -> set[int]:
    """What the solver says goes when these classes go."""
    marked = np.zeros(solution.classes, bool)
    marked[list(roots)] = True
    return set(np.flatnonzero(solution.removed_classes(marked)[solution.label[: system.atoms.count]]).tolist())


@st.composite
def systems(draw: st.DrawFn, max_slots: int = 6, wild: bool = True) -> System:
    """A random system: slots of 1 to 12 atoms, linked whole, by slices and by permutations, factored, frozen.

    `wild` systems say anything; others link contiguous runs and factor whole slots, as operators do.
    """
    system = System()
    small = st.sampled_from([2, 2, 3, 4])

    def some_slot(size: int) -> Ids:
        """A slot of this length: an old one where there is one, or new."""
        fitting = [a for a in range(len(system.atoms.slots)) if system.atoms.slots[a].size == size]
        pick = draw(st.integers(-1, len(fitting) - 1))
        if pick < 0:
            return system.slot(size)
        slot = system.atoms.slots[fitting[pick]]
        return system.atoms.ids(slot.key, slot.axis, slot.size)

    def piece(size: int) -> Ids:
        """`size` atoms out of a slot that has at least that many."""
        fitting = [s for s in system.atoms.slots if s.size >= size]
        if not fitting:
            return some_slot(size)
        slot = draw(st.sampled_from(fitting))
        ids = system.atoms.ids(slot.key, slot.axis, slot.size)
        if slot.size == size and draw(st.booleans()):
            return ids
        if wild and draw(st.integers(0, 3)) == 0:
            return ids[np.asarray(draw(st.permutations(range(slot.size))))[:size]]
        start = draw(st.integers(0, slot.size - size))
        return ids[start : start + size]

    for _ in range(draw(st.integers(1, max_slots))):
        link = system.link()
        match draw(st.sampled_from(["factor", "factor", "factor3", "same", "piece", "freeze", "slot"])):
            case "slot":
                system.slot(draw(small))
            case "same":
                size = draw(small)
                link.same(some_slot(size), some_slot(size))
            case "piece":
                size = draw(small)
                link.same(piece(size), piece(size))
            case "freeze":
                ids = piece(draw(st.sampled_from([1, 1, 2])))
                link.freeze(ids, "frozen here")
            case kind:
                shape = [draw(small) for _ in range(3 if kind == "factor3" else 2)]
                size = int(np.prod(shape))
                flat = piece(size) if wild else some_slot(size)
                parts = [link.fresh(n) if draw(st.integers(0, 2)) == 0 else some_slot(n) for n in shape]
                link.factor(flat, shape, parts)
    return system
