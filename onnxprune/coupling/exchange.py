"""Whether the members of blocks can change places within their block without changing what a model computes.

Let every block b have a permutation of its own, p_b. An axis that is *flat* (block x member, in any order) takes them
as one permutation of its indices. An axis that holds members *alone* (the dims of q [N, H, S, D]) can take them only in
a tensor that has the blocks on another axis (H), for each of these its own. A node computes the same of permuted
tensors as of the others if

- its operator treats the indices of an axis alike (the analysis says which do, by `Site.exchangeable`),
- what it links stays linked: equal axes move equally, a product moves as its parts, indexing finds what it found,
- all of its tensors that hold members alone have the blocks on one and the same axis of the node's, along which it does
  the same thing over and over: q [N, H, S, D] times k [N, H, D, T] has; q [N, S, H, D] times k [N, S, D, H] has not,
  each head meets every other, and a softmax over H has not.

This is checked with certain permutations on every node that touches the group. If it holds, the stored tensors can
take any permutation, and nothing else in the file changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxprune.coupling.atoms import Factor, Ids, Operand
from onnxprune.coupling.blocks import NONE, Axes, Blocks, Members, coordinates
from onnxprune.coupling.coupling import Coupling, Site
from onnxprune.coupling.placing import NotExchangeable, Placing, place
from onnxprune.coupling.runs import distinct

_SEED = 20240611


@dataclass(frozen=True)
class _Axis:
    placing: Placing | None
    block: np.ndarray  # of each index
    orders: tuple[np.ndarray, ...]  # one for each choice that is tried


class Exchange:
    """The check for one group and one candidate for its blocks."""

    def __init__(self, coupling: Coupling, axes: Axes, members: Members, blocks: Blocks) -> None:
        self.coupling, self.axes, self.members, self.blocks = coupling, axes, members, blocks
        self._label = coupling.solution.label
        self._choices = _choices(blocks.count, len(members))
        self._known: dict[int, _Axis] = {}
        self._by: dict[int, tuple[int, np.ndarray]] = {}

    def check(self, site: Site) -> None:
        """Raises NotExchangeable where the site does not compute the same after an exchange."""
        if site.rule is None:
            if site.recorded.frozen:
                raise NotExchangeable(f"{site.node.title} ({site.node.op}) is not understood")
            return  # computes sizes, or passes a shared vector on
        if all(name in self.coupling.view.constants for name in site.node.node.outputs):
            return  # a Constant: cut like an initializer
        if not site.exchangeable:
            raise NotExchangeable(f"{site.node.title} ({site.node.op}) may tell the indices of an axis apart")
        node = _NodeCheck(self, site)
        for one, other in site.recorded.wholes:
            node.slots(one, other)
        for a, b in site.recorded.edges:
            node.link(a, b)
        for factor in site.recorded.factors:
            node.factor(factor)
        node.blocks_are_aligned()

    def placings(self, slots: Iterable[int]) -> dict[int, Placing]:
        """The placing of every slot of a stored tensor that has members."""
        found = {}
        for slot in slots:
            placing = self.axis(slot).placing
            if placing is None or self.coupling.atoms.slots[slot].tensor not in self.coupling.view.constants:
                continue
            if not placing.is_flat:
                if slot not in self._by:
                    name = self.coupling.atoms.slots[slot].tensor
                    raise NotExchangeable(f"{name} holds them on an axis of its own and has none for the blocks")
                placing = replace(placing, by=self._by[slot])
            found[slot] = placing
        return found

    # -- what the check of a node asks for -----------------------------------------------------------------------

    def axis(self, axis: int) -> _Axis:
        if axis not in self._known:
            ids = self.axes.atoms(axis)
            label = self._label[ids]
            block = self.blocks.of(ids, self._label)
            placing = place(self.members.of_class[label], block, self.members.word[label], len(self.members))
            orders = () if placing is None else tuple(placing.order(choice) for choice in self._choices)
            self._known[axis] = _Axis(placing, block, orders)
        return self._known[axis]

    def holds(self, ids: Ids) -> np.ndarray:
        """Which of these atoms (bool) go with a member."""
        return np.asarray(self.members.of_class[self._label[ids]] != NONE)

    def is_flat(self, axes: np.ndarray) -> bool:
        """Whether the axes, which have members, are flat. Raises NotExchangeable where they differ in that."""
        kinds = {placing.is_flat for a in distinct(axes).tolist() if a >= 0 and (placing := self.axis(a).placing)}
        if len(kinds) != 1:
            raise NotExchangeable("an axis of blocks and members meets one of members alone")
        return kinds.pop()

    def moved(self, ids: Ids, choice: int, block: np.ndarray) -> Ids:
        """What takes the place of each atom; `block` is theirs, for axes that hold members alone."""
        found, axes = ids.copy(), self.axes.of(ids)
        for axis in distinct(axes[axes >= 0]).tolist():
            state = self.axis(axis)
            if state.placing is not None:
                mine = axes == axis
                places = ids[mine] - self.axes.start[axis]
                order = state.orders[choice]
                found[mine] = self.axes.start[axis] + (
                    order[places] if state.placing.is_flat else order[block[mine], places]
                )
        return found

    @property
    def tries(self) -> range:
        return range(len(self._choices))

    def block_of(self, ids: Ids) -> np.ndarray:
        return self.blocks.of(ids, self._label)

    def remember(self, slot: int, by: tuple[int, np.ndarray]) -> None:
        """The blocks of a stored tensor's slot of members are on this slot. Raises where nodes differ in that."""
        known = self._by.setdefault(slot, by)
        if known[0] != by[0] or not np.array_equal(known[1], by[1]):
            raise NotExchangeable(f"{self.coupling.atoms.slots[slot].tensor} is read with different blocks")


class _NodeCheck:
    """One node: which of its axes are one (`_leader`), and which are products of which (`_parts`)."""

    def __init__(self, exchange: Exchange, site: Site) -> None:
        self._all, self._axes, self._site = exchange, exchange.axes, site
        self._up: dict[int, int] = {}
        self._products: list[tuple[int, Factor, list[int]]] = []
        self._aligned: list[tuple[int, set[int]]] = []  # axis of members alone, axes that its blocks are on

    def _fail(self, why: str) -> NotExchangeable:
        return NotExchangeable(f"at {self._site.node.title} ({self._site.node.op}): {why}")

    def slots(self, one: int, other: int) -> None:
        """Two slots are one, index by index."""
        self._up[self._leader(one)] = self._leader(other)
        mine, theirs = self._all.axis(one), self._all.axis(other)
        if mine.placing is not None and theirs.placing is not None:
            if mine.placing.is_flat != theirs.placing.is_flat:
                raise self._fail("an axis of blocks and members meets one of members alone")
            if not all(np.array_equal(a, b) for a, b in zip(mine.orders, theirs.orders, strict=True)):
                raise self._fail("equal axes do not move equally")

    def link(self, a: Ids, b: Ids) -> None:
        """Indices a[i] and b[i] are one, and must be so when they have moved."""
        mine, theirs = self._axes.of(a), self._axes.of(b)
        count = len(self._axes.size)
        for pair in distinct((mine * count + theirs)[(mine >= 0) & (theirs >= 0)]).tolist():
            self._up[self._leader(pair // count)] = self._leader(pair % count)
        held = self._all.holds(a)
        if not held.any():
            return
        a, b = a[held], b[held]
        flat = self._all.is_flat(np.concatenate([mine[held], theirs[held]]))
        before = _pairs(a, b)
        for choice in self._all.tries:
            for block in [0] if flat else [0, 1]:
                blocks = np.full(len(a), block)
                after = _pairs(self._all.moved(a, choice, blocks), self._all.moved(b, choice, blocks))
                if not np.array_equal(before, after):
                    raise self._fail("it picks indices that change places")

    def factor(self, factor: Factor) -> None:
        """A flat axis is a product, and must be so when indices have moved."""
        axis = self._one_axis(factor.flat)
        parts = [self._one_axis(part) for part in factor.parts]
        self._products.append((axis, factor, parts))
        held = self._all.holds(factor.flat)
        if not held.any():
            return
        holding = [k for k, part in enumerate(factor.parts) if self._all.holds(part).any()]
        place_on = coordinates(factor)
        if len(holding) != 1 or not np.array_equal(
            held, self._all.holds(factor.parts[holding[0]])[place_on[holding[0]]]
        ):
            raise self._fail("it splits the units themselves")
        (k,) = holding
        part = factor.parts[k]
        flat, alone = self._all.is_flat(np.asarray([axis])), not self._all.is_flat(np.asarray([parts[k]]))
        if not flat and not alone:
            raise self._fail("an axis of members alone is a product of blocks and members")
        block = np.maximum(self._all.block_of(factor.flat), 0)  # of what holds members, else of no account
        for choice in self._all.tries:
            for trial in [block] if flat else [np.zeros_like(block), np.ones_like(block)]:
                moved = list(place_on)
                moved[k] = _find(self._all.moved(part[place_on[k]], choice, trial), part)
                if (moved[k] < 0).any():
                    raise self._fail("a part lacks indices that change places")
                target = np.ravel_multi_index(moved, factor.shape)
                if not np.array_equal(factor.flat[target], self._all.moved(factor.flat, choice, trial)):
                    raise self._fail("its product does not move as its parts")
        if flat and alone:
            with_blocks = {
                parts[t]
                for t, other in enumerate(factor.parts)
                if t != k and np.array_equal(self._all.block_of(other)[place_on[t]][held], block[held])
            }
            self._aligned.append((parts[k], with_blocks))

    def blocks_are_aligned(self) -> None:
        """Every tensor that has members alone on an axis has its blocks on an axis that all such tensors share."""
        allowed: dict[int, set[int]] = {}
        operands = self._site.node.operands
        for operand in operands:
            reach = self._reach(operand)
            with_blocks = {self._leader(a) for a in reach if (self._all.axis(a).block >= 0).all()}
            for axis in reach:
                placing = self._all.axis(axis).placing
                if placing is not None and not placing.is_flat:
                    mine = self._leader(axis)
                    allowed[mine] = allowed.get(mine, with_blocks) & with_blocks
                    if not allowed[mine]:
                        raise self._fail(f"{operand.name} has no axis for the blocks")
        for axis, others in self._aligned:
            mine = self._leader(axis)
            both = self._with_parts({self._leader(a) for a in others})
            allowed[mine] = allowed.get(mine, both) & both
            if not allowed[mine]:
                raise self._fail("blocks of a product and of its parts are not the same")
        mingled = self._mingled() if allowed else set()
        for axis, with_blocks in allowed.items():
            allowed[axis] = with_blocks - mingled
            if not allowed[axis]:
                raise self._fail("what it computes for one block depends on the others")
        self._remember_stored(operands, allowed)

    def _with_parts(self, leaders: set[int]) -> set[int]:
        """Axes that have the blocks, and those of their parts that have: heads of queries share heads of keys."""
        found = set(leaders)
        while True:
            more = {
                self._leader(part)
                for flat, factor, parts in self._products
                if flat >= 0 and self._leader(flat) in found
                for part, ids, at in zip(parts, factor.parts, coordinates(factor), strict=True)
                if part >= 0 and np.array_equal(self._all.block_of(ids)[at], self._all.block_of(factor.flat))
            }
            if more <= found:
                return found
            found |= more

    def _mingled(self) -> set[int]:
        """Axes of the result along which the node does not do the same thing over and over."""
        recorded, node = self._site.recorded, self._site.node
        ids = [ids for ids, _ in (*recorded.mixes, *(() if self._site.parallel else recorded.frozen))]
        axes = {a for some in ids for a in distinct(self._axes.of(some)).tolist() if a >= 0}
        for _, position, axis, _ in recorded.contracts:
            operand = node.inputs[position]
            slot = None if operand is None else self._all.coupling.atoms.slot_at(operand.key, axis)
            if slot is not None:
                axes.add(slot)
        made = {self._leader(a) for y in node.outputs if y is not None for a in self._reach(y)}
        return {self._leader(a) for a in axes} & made

    def _remember_stored(self, operands: Sequence[Operand], allowed: dict[int, set[int]]) -> None:
        coupling = self._all.coupling
        for operand in operands:
            slots = self._slots(operand)
            if not slots or coupling.atoms.slots[slots[0]].tensor not in coupling.view.constants:
                continue
            for slot in slots:
                placing = self._all.axis(slot).placing
                if placing is None or placing.is_flat:
                    continue
                for other in slots:
                    block = None if other == slot else self._block_along(other, allowed[self._leader(slot)])
                    if block is not None:
                        self._all.remember(slot, (other, block))
                        break

    def _block_along(self, axis: int, leaders: set[int]) -> np.ndarray | None:
        """The block of each index of an axis that is, or has for a part, one of the axes called `leaders`."""
        if self._leader(axis) in leaders:
            return self._all.axis(axis).block
        for flat, factor, parts in self._products:
            if flat >= 0 and self._leader(flat) == self._leader(axis) and len(factor.flat) == self._axes.size[axis]:
                for part, ids, at in zip(parts, factor.parts, coordinates(factor), strict=True):
                    if part >= 0 and self._leader(part) in leaders:
                        block = np.empty(len(factor.flat), np.int64)
                        block[factor.flat - self._axes.start[flat]] = self._all.block_of(ids)[at]
                        return block
        return None

    def _slots(self, operand: Operand) -> list[int]:
        found = (self._all.coupling.atoms.slot_at(operand.key, axis) for axis in range(operand.rank))
        return [slot for slot in found if slot is not None]

    def _reach(self, operand: Operand) -> set[int]:
        """The operand's axes, and those that they are products of."""
        reach = set(self._slots(operand))
        while True:
            leaders = {self._leader(a) for a in reach}
            more = {
                part
                for flat, _, parts in self._products
                if flat >= 0 and self._leader(flat) in leaders
                for part in parts
                if part >= 0
            }
            if more <= reach:
                return reach
            reach |= more

    def _one_axis(self, ids: Ids) -> int:
        """The axis that all of these atoms are on, -1 where there is none."""
        found = distinct(self._axes.of(ids))
        if len(found) == 1:
            return int(found[0])
        if self._all.holds(ids).any():
            raise self._fail("a product is made of several axes")
        return NONE

    def _leader(self, axis: int) -> int:
        while axis in self._up and self._up[axis] != axis:
            axis = self._up[axis]
        return axis


def _choices(blocks: int, members: int) -> list[np.ndarray]:
    """Permutations [blocks, members] to try: different ones in different blocks."""
    rng = np.random.default_rng(_SEED)
    if blocks == 1:
        return [np.roll(np.arange(members), 1)[None], rng.permutation(members)[None]]
    choice = rng.permuted(np.tile(np.arange(members), (blocks, 1)), axis=1)
    choice[0], choice[1] = np.arange(members), np.roll(np.arange(members), 1)
    return [choice, np.roll(choice, 1, axis=0)]


def _pairs(a: Ids, b: Ids) -> np.ndarray:
    """The pairs of a relation, in an order of their own."""
    order = np.lexsort((b, a))
    return np.stack([a[order], b[order]])


def _find(ids: Ids, within: Ids) -> np.ndarray:
    """The place of each atom `within` distinct others, -1 where it is not there."""
    order = np.argsort(within, kind="stable")
    at = order[np.minimum(np.searchsorted(within[order], ids), len(within) - 1)]
    return np.where(within[at] == ids, at, NONE)
