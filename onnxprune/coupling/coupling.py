"""The result of an analysis: what can be removed together, what that costs, and what cannot go and why."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxprune.coupling.atoms import Atoms, Links
from onnxprune.coupling.footprint import Footprint
from onnxprune.coupling.groups import UnitGroup, Units
from onnxprune.coupling.nodeview import NodeView, Work
from onnxprune.coupling.registry import Rule
from onnxprune.coupling.residual import ResidualBlock, find_blocks
from onnxprune.coupling.solve import Solution
from onnxprune.display import html_table
from onnxprune.graph.bindings import Bindings
from onnxprune.graph.shapes import Shapes
from onnxprune.graph.view import GraphView
from onnxprune.types import Cost, Group, Refusal

if TYPE_CHECKING:
    from onnxprune.coupling.balance import Balance


@dataclass
class Site:
    """A node with its rule and what was recorded for it; `rule` is None where it is frozen or only computes sizes.

    `exchangeable`: the indices of an axis could come in another order, and the node would compute the same in it.
    `parallel`: along axes that it keeps as they are it does the same thing over and over. `settled`: a statistic of
    what is stored, which stays what it is in the dense model (settled.py).
    """

    node: NodeView
    rule: Rule | None
    recorded: Links = field(default_factory=Links)
    exchangeable: bool = False
    parallel: bool = False
    settled: bool = False


@dataclass(repr=False)
class Coupling:
    """What can be removed from a model together, and what cannot and why. Made by `analyse`; read-only."""

    view: GraphView
    bindings: Bindings
    shapes: Shapes
    atoms: Atoms
    links: Links
    solution: Solution
    units: Units
    sites: list[Site]
    parameters: dict[str, tuple[int, ...]]
    options: dict[str, Any]
    measured: dict[str, tuple[int, ...]]

    def __repr__(self) -> str:
        units = sum(len(group.roots) for group in self.units.groups)
        return f"Coupling({len(self.view.nodes)} nodes, {len(self.units.groups)} groups of {units} units in all)"

    def _repr_html_(self) -> str:
        """For notebooks: the groups."""
        rows = [
            (g.name, g.kind, g.size, f"{g.parameters:,}", f"{g.macs:,}", "yes" if g.exact else "no")
            for g in self.groups
        ]
        return html_table(repr(self), ("group", "kind", "units", "parameters each", "MACs each", "exact"), rows)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Groups of units, in graph order."""
        from onnxprune.coupling.describe import describe_groups

        return tuple(describe_groups(self))

    @cached_property
    def refusals(self) -> tuple[Refusal, ...]:
        """Every axis of a stored tensor that must stay, wholly or in part, with the reason."""
        from onnxprune.coupling.refusals import list_refusals

        return tuple(list_refusals(self))

    @cached_property
    def balance(self) -> Balance:
        """Which groups' blocks may each lose members of their own, in equal number."""
        from onnxprune.coupling.balance import find_balance

        return find_balance(self)

    @cached_property
    def blocks(self) -> tuple[ResidualBlock, ...]:
        """Residual blocks, which can be dropped whole, in graph order."""
        return find_blocks(self.view, self.shapes, self.parameters)

    @cached_property
    def footprint(self) -> Footprint:
        """What the model costs at any lengths."""
        return Footprint(self)

    @cached_property
    def stored_slots(self) -> list[int]:
        """Slots of tensors that are stored in the file, and of parameters that it spells otherwise."""
        names = self.view.constants.keys() | self.parameters.keys()
        return [i for i, slot in enumerate(self.atoms.slots) if slot.tensor in names]

    @cached_property
    def parameter_slots(self) -> dict[str, dict[int, list[int]]]:
        """Parameter -> axis -> its slots, as `tensor_slots` has them for what is stored."""
        return self._slots_of(self.parameters)

    @cached_property
    def works(self) -> list[tuple[Work, list[int | None]]]:
        """Each node's multiply-accumulates with the slots of its axes (None for an axis nobody traces).

        In a body for all times that it runs. A body of If that does not run at the bound sizes has none; where data
        decides which of the two runs, both count.
        """
        return [(work, slots) for _, work, slots in self._works]

    @cached_property
    def _works(self) -> list[tuple[int, Work, list[int | None]]]:
        found = []
        for site in self.sites:
            if site.rule is not None and site.rule.work is not None:
                stated = site.rule.work(site.node)
                times = self.shapes.times(site.node.node.scope)
                for work in stated if isinstance(stated, list) else [stated]:
                    if times != 1:
                        work = replace(work, factor=work.factor * times)
                    slots = [self.atoms.slot_at(x.key, axis % x.rank) for x, axis in work.axes]
                    found.append((site.node.index, work, slots))
        return found

    @cached_property
    def work_sites(self) -> list[int]:
        """For each of `works` the index of the node that does it."""
        return [node for node, _, _ in self._works]

    @cached_property
    def tensor_slots(self) -> dict[str, dict[int, list[int]]]:
        """Stored tensor -> axis -> its slots (several where a shared vector has atoms per use)."""
        return self._slots_of(self.view.constants)

    def _slots_of(self, names: Container[str]) -> dict[str, dict[int, list[int]]]:
        found: dict[str, dict[int, list[int]]] = {}
        for index, slot in enumerate(self.atoms.slots):
            if slot.tensor in names:
                found.setdefault(slot.tensor, {}).setdefault(slot.axis, []).append(index)
        return found

    def unit_group(self, index: int) -> UnitGroup:
        """The classes and slots behind `groups[index]`."""
        return self.units.groups[index]

    def cost(self, removed: np.ndarray | None = None, dropped: Sequence[ResidualBlock] = ()) -> Cost:
        """Parameters and MACs with the classes marked in `removed` (bool, see `removed_classes`) and blocks gone."""
        lengths, take = self.lengths(removed), self.without(dropped)
        return Cost(take.parameters(lengths), take.macs(lengths))

    def without(self, dropped: Sequence[ResidualBlock]) -> Footprint:
        """What the model costs at any lengths without some residual blocks."""
        return Footprint(self, frozenset().union(*(b.nodes for b in dropped))) if dropped else self.footprint

    def least_cost(self) -> Cost:
        """The cost with one unit of every group left: how far pruning could go."""
        return self.cost(self.removed_classes({i: [0] for i in range(len(self.units.groups))}))

    def lengths(self, removed: np.ndarray | None = None) -> np.ndarray:
        """Length of every slot (int64) with the classes marked in `removed` gone."""
        lengths = self._dense_lengths.copy()
        if removed is not None:
            places = self.solution.places
            gone = removed[places.cls]
            lost = np.bincount(places.place[gone], places.count[gone], places.number)
            lengths -= lost.astype(np.int64)[places.slots.of]
        return lengths

    @cached_property
    def _dense_lengths(self) -> np.ndarray:
        return np.fromiter((s.size for s in self.atoms.slots), np.int64, len(self.atoms.slots))

    def removed_classes(self, kept: Mapping[int, Sequence[int]]) -> np.ndarray:
        """Classes (bool) that go when only the units `kept[group index]` of each named group stay."""
        roots = np.zeros(self.solution.classes, bool)
        for index, stay in kept.items():
            members = self.units.groups[index].roots
            gone = np.ones(len(members), bool)
            gone[np.asarray(stay, np.int64)] = False
            roots[members[gone]] = True
        return self.solution.removed_classes(roots)

    def kept_of_slot(self, index: int, removed: np.ndarray) -> np.ndarray:
        """Indices (sorted int64) of a slot that stay."""
        slot = self.atoms.slots[index]
        return np.flatnonzero(~removed[self.solution.label[slot.start : slot.start + slot.size]])
