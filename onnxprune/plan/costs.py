"""What a choice of counts costs, quickly: a search asks for thousands of choices."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.coupling.footprint import Footprint
from onnxprune.coupling.residual import ResidualBlock
from onnxprune.coupling.runs import begins
from onnxprune.plan.choices import Choice
from onnxprune.types import Cost

Counts = tuple[int, ...]
"""Units kept of each choice; then, for each residual block that may go, 1 while it stays and 0 once it is gone."""


class Lengths:
    """Lengths of all slots (int64) with so many of the best units of each choice kept, as `Coupling.lengths` has them.

    What goes with units of one choice alone is added up beforehand; the rest (where heads and head dims cross) is
    looked up each time. Slots at one place (places.py) lose the same, so that all is counted by places.
    """

    def __init__(self, coupling: Coupling, choices: Sequence[Choice]) -> None:
        units, places = coupling.units, coupling.solution.places
        self._dense = coupling.lengths()
        self._sizes = np.fromiter((len(c.scores) for c in choices), np.int64, len(choices))
        owner = np.full(coupling.solution.classes, -1)
        rank = np.zeros(coupling.solution.classes, np.int64)  # how many go before this one
        for k, choice in enumerate(choices):
            roots = coupling.unit_group(choice.group.index).roots
            owner[roots] = k
            rank[roots[choice.best_first[::-1]]] = np.arange(len(roots))
        mine = owner[units.root] >= 0
        # class that goes, choice that takes it, after how many; the first of a choice to take it counts
        number, longest = max(len(choices), 1), int(self._sizes.max(initial=1))
        root = units.root[mine]
        taken = np.sort((units.below[mine] * number + owner[root]) * longest + rank[root])
        pair = taken // longest
        first = begins(pair)
        (cls, taker), after = np.divmod(pair[first], number), taken[first] % longest
        takers = np.bincount(cls, minlength=coupling.solution.classes)
        single = takers[cls] == 1
        self._tables = self._by_choice(coupling, cls[single], taker[single], after[single])
        self._cls, self._taker, self._after = cls[~single], taker[~single], after[~single]
        joint = takers[places.cls] > 1
        self._place, self._at, self._count = places.place[joint], places.cls[joint], places.count[joint]
        self._classes, self._places, self._place_of = coupling.solution.classes, places.number, places.slots.of

    def _by_choice(
        self, coupling: Coupling, cls: np.ndarray, taker: np.ndarray, after: np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each choice the places that get shorter, and [units removed, place] by how much.

        Class `cls[i]` goes with choice `taker[i]`, once more than `after[i]` of its units do.
        """
        places = coupling.solution.places
        owner = np.full(coupling.solution.classes, len(self._sizes))  # beyond all choices: no one's
        rank = np.zeros(coupling.solution.classes, np.int64)
        owner[cls], rank[cls] = taker, after
        mine = owner[places.cls]
        order = np.argsort(mine, kind="stable")
        bounds = np.searchsorted(mine[order], np.arange(len(self._sizes) + 1))
        tables = []
        for size, start, stop in zip(self._sizes.tolist(), bounds[:-1], bounds[1:], strict=True):
            at = order[start:stop]
            begin = begins(places.place[at])  # they rise
            column = np.repeat(np.arange(len(begin)), np.diff(np.append(begin, len(at))))
            cell = (rank[places.cls[at]] + 1) * len(begin) + column
            table = np.bincount(cell, places.count[at], (size + 1) * len(begin)).astype(np.int64)
            tables.append((places.place[at[begin]], table.reshape(size + 1, len(begin)).cumsum(axis=0)))
        return tables

    def __call__(self, counts: Counts) -> np.ndarray:
        """Lengths with `counts[k]` units of choice k kept."""
        lost = np.zeros(self._places, np.int64)
        removed = self._sizes - np.asarray(counts, np.int64)
        for (places, table), gone in zip(self._tables, removed, strict=True):
            if gone:
                lost[places] += table[gone]
        if len(self._cls):
            marked = np.zeros(self._classes, bool)
            marked[self._cls[removed[self._taker] > self._after]] = True
            going = marked[self._at]
            np.add.at(lost, self._place[going], self._count[going])
        return np.asarray(self._dense - lost[self._place_of])


class Costs:
    """Cost of choices by how many units of each stay; of the optional quantities those in `quantities` alone."""

    def __init__(
        self,
        coupling: Coupling,
        choices: Sequence[Choice],
        quantities: Collection[str] = (),
        latency: Callable[[Footprint, np.ndarray], float] | None = None,
        blocks: Sequence[ResidualBlock] = (),
    ) -> None:
        """`latency` gives milliseconds, at lengths of slots; `blocks` are those that may go."""
        self._lengths = Lengths(coupling, choices)
        self._coupling, self._choices, self._blocks = coupling, len(choices), blocks
        self._footprints: dict[Counts, Footprint] = {}
        self._quantities = frozenset(quantities)
        self._latency = latency
        self._known: dict[Counts, Cost] = {}
        self._pressures: dict[Counts, float] = {}
        self.dense = self._cost(coupling.footprint, coupling.lengths())

    def at(self, counts: Counts) -> Cost:
        """Cost with this much kept."""
        if counts not in self._known:
            self._known[counts] = self._cost(self._footprint(counts), self._lengths(counts[: self._choices]))
        return self._known[counts]

    def steering(self, counts: Counts, weights: Mapping[str, float]) -> float:
        """The quantities named in `weights`, weighted and added up: what a search follows downhill.

        The peak of activations stands in it by `Footprint.pressure`, which is not level where two peaks are equal.
        """
        cost = self.at(counts)
        return sum(
            weight * (self._pressure(counts) if quantity == "activations" else getattr(cost, quantity))
            for quantity, weight in weights.items()
        )

    def _pressure(self, counts: Counts) -> float:
        if counts not in self._pressures:
            lengths = self._lengths(counts[: self._choices])
            self._pressures[counts] = self._footprint(counts).pressure(lengths)
        return self._pressures[counts]

    def _footprint(self, counts: Counts) -> Footprint:
        stays = counts[self._choices :]
        if stays not in self._footprints:
            gone = [block for block, stay in zip(self._blocks, stays, strict=True) if not stay]
            self._footprints[stays] = self._coupling.without(gone)
        return self._footprints[stays]

    def _cost(self, take: Footprint, lengths: np.ndarray) -> Cost:
        asked = self._quantities
        return Cost(
            take.parameters(lengths),
            take.macs(lengths),
            take.file_bytes(lengths) if "bytes" in asked else None,
            take.activations(lengths) if "activations" in asked else None,
            None if self._latency is None else self._latency(take, lengths),
        )
