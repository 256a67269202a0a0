"""Balanced choice: groups of which every block may lose members of its own, in equal number.

Dim 5 of a head is a unit with dim 5 of every other head, because a flat axis is heads x dims and stays one. But where
nothing tells the dims of a head apart, they can change places within it, in all that the head touches, and the model
computes the same: so each head may put another of its dims in fifth place. The members of each group of a grouped
convolution are alike in this way, and the hidden units of each direction of a recurrent operator.

A *block* is an index of what such an axis is multiplied with (a head), a *member* a unit of the group (a dim). That
members may change places is proved node by node, see exchange.py; what cannot be proved is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from onnxprune.coupling.blocks import Axes, Blocks, Members, Roots, whole
from onnxprune.coupling.coupling import Coupling
from onnxprune.coupling.exchange import Exchange
from onnxprune.coupling.placing import NotExchangeable, Placing


@dataclass(frozen=True)
class Balanced:
    """Group number `group`: its `members` units have one member each in every one of `blocks` blocks.

    `placings` says for each slot of a stored tensor that holds members where they are.
    """

    group: int
    blocks: int
    members: int
    placings: dict[int, Placing]


@dataclass(frozen=True)
class Balance:
    """`balanced` by group index, and of the other groups that have blocks the reason why their members stay put."""

    balanced: dict[int, Balanced]
    reasons: dict[int, str]


def find_balance(coupling: Coupling) -> Balance:
    """The groups of which every block may lose members of its own.

    No group's blocks are the members of another balanced group: they would change places under it.
    """
    return _Finder(coupling).find()


class _Finder:
    def __init__(self, coupling: Coupling) -> None:
        self.coupling, self.axes = coupling, Axes(coupling.atoms)
        self._roots = Roots(coupling.units)

    def find(self) -> Balance:
        found = Balance({}, {})
        as_members, as_blocks = set[int](), set[int]()  # bunches
        groups = self.coupling.units.groups
        # Where either of two could be balanced, it is the one with more members.
        for index in sorted(range(len(groups)), key=lambda i: (-len(groups[i].roots), i)):
            group = groups[index]
            own = int(self.coupling.solution.bunch[group.roots[0]])
            members = Members(self._roots, group.roots)
            why, best = self._bunches(index, members)[1], None
            for blocks in self._candidates(index, members):
                if own in as_blocks or blocks.bunch in as_members:
                    why = why or "its blocks or its members are those of another balanced group"
                    continue
                try:
                    proved = self._prove(index, members, blocks)
                except NotExchangeable as reason:
                    why = why or str(reason)
                else:
                    if best is None or proved.blocks > best[0].blocks:
                        best = proved, blocks.bunch
            if best is not None:
                found.balanced[index] = best[0]
                as_members.add(own)
                as_blocks.add(best[1])
            elif why:
                found.reasons[index] = why
        return found

    def _candidates(self, index: int, members: Members) -> Iterator[Blocks]:
        """What the blocks could be: units of another kind that share flat axes or stored tensors with the members, or
        an axis that stays.
        """
        solution = self.coupling.solution
        sites = [self.coupling.sites[i] for i in self._touched(index)]
        for bunch in sorted(self._bunches(index, members)[0]):
            blocks = Blocks.of_roots(self.coupling.units, bunch)
            if blocks.count > 1:
                yield blocks
        parts = [
            solution.label[part]
            for site in sites
            for factor in site.recorded.factors
            if members.any_among(solution.label[factor.flat])
            for part in factor.parts
        ]
        along = [
            solution.label[whole(self.coupling.atoms, slot)]
            for site in sites
            if site.parallel
            for operand in site.node.operands
            for axis in range(operand.rank)
            if (slot := self.coupling.atoms.slot_at(operand.key, axis)) is not None
        ]
        seen: set[bytes] = set()
        for label in (*parts, *along):
            if len(label) > 1 and solution.frozen[label].all() and label.tobytes() not in seen:
                seen.add(label.tobytes())
                if len(set(label.tolist())) == len(label):
                    frozen = Blocks.of_frozen(solution, label, sites, self.coupling.atoms)
                    if frozen is not None:
                        yield frozen

    def _bunches(self, index: int, members: Members) -> tuple[set[int], str]:
        """Bunches of which every stored tensor that holds members has roots, in the members' axis or beside it.

        And which tensor it was that left none of them.
        """
        coupling, label, atoms = self.coupling, self.coupling.solution.label, self.coupling.atoms
        own = {int(coupling.solution.bunch[members.roots[0]])}
        common: set[int] | None = None
        for slot in self._slots(index):
            key = atoms.slots[slot].key
            if key[0] not in coupling.view.constants or not members.any_among(label[whole(atoms, slot)]):
                continue
            slots = [s for of in coupling.tensor_slots[key[0]].values() for s in of if atoms.slots[s].key == key]
            here = set().union(*(self._roots.bunches(label[whole(atoms, s)]) for s in slots)) - own
            if common and not common & here:
                return set(), f"{key[0]} has no axis for the blocks"
            common = here if common is None else common & here
        return common or set(), ""

    def _prove(self, index: int, members: Members, blocks: Blocks) -> Balanced:
        exchange = Exchange(self.coupling, self.axes, members, blocks)
        view, slots = self.coupling.view, self._slots(index)
        for slot in slots:
            name = self.coupling.atoms.slots[slot].tensor
            if (name in view.inputs or view.leaves(name)) and exchange.axis(slot).placing is not None:
                raise NotExchangeable(f"{name} is seen from outside")
        for site in self._touched(index):
            exchange.check(self.coupling.sites[site])
        return Balanced(index, blocks.count, len(members), exchange.placings(slots))

    def _slots(self, index: int) -> list[int]:
        found: list[int] = self.coupling.units.groups[index].slots.tolist()
        return found

    def _touched(self, index: int) -> list[int]:
        return sorted({site for slot in self._slots(index) for site in self._sites_of.get(slot, ())})

    @cached_property
    def _sites_of(self) -> dict[int, list[int]]:
        """Slot -> the sites that have it at an operand."""
        found: dict[int, list[int]] = {}
        for index, site in enumerate(self.coupling.sites):
            mine = {
                slot
                for operand in site.node.operands
                for axis in range(operand.rank)
                if (slot := self.coupling.atoms.slot_at(operand.key, axis)) is not None
            }
            for slot in mine:
                found.setdefault(slot, []).append(index)
        return found
