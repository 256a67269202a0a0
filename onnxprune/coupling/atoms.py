"""Atoms and links: what rules say about a graph's axes, recorded and not yet solved.

Every traced (tensor, axis) is a *slot* that owns a run of int64 atom ids, one per index. Rules state how the atoms
of a node's tensors hang together with five verbs (same, contract, factor, freeze, mix). Slicing, concatenating and
gathering are numpy indexing of id arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxprune.types import Refusal

Ids = np.ndarray
FROZEN = 0
"""Atom id 0 stands for an index that must stay."""


class Decline(Exception):
    """Raised by a rule that cannot tell what its node does; freezes all that the node touches, with this reason."""

    def __init__(self, why: str, help: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.help = help


@dataclass(frozen=True)
class Slot:
    """One traced axis: `key` is the value's name, or name and use for a vector that has atoms per consumer."""

    key: tuple[str, int, int]  # value, consuming node or -1, input position or -1
    axis: int
    start: int
    size: int

    @property
    def tensor(self) -> str:
        return self.key[0]


@dataclass(frozen=True)
class Factor:
    """`flat[i]` goes if and only if any of the parts' atoms at i's coordinates goes (row-major over `shape`)."""

    flat: Ids
    shape: tuple[int, ...]
    parts: tuple[Ids, ...]
    node: int


@dataclass
class Links:
    """All that the rules recorded. Arrays are ids; `wholes` are links of entire slots, by slot index."""

    wholes: list[tuple[int, int]] = field(default_factory=list)
    edges: list[tuple[Ids, Ids]] = field(default_factory=list)
    factors: list[Factor] = field(default_factory=list)
    frozen: list[tuple[Ids, int]] = field(default_factory=list)
    mixes: list[tuple[Ids, int]] = field(default_factory=list)
    tags: list[tuple[Ids, str]] = field(default_factory=list)
    contracts: list[tuple[int, int, int, int | None]] = field(default_factory=list)
    """Node, input position, axis, and the position of the input that holds what counts as zero there (None: 0)."""

    def extend(self, other: Links) -> None:
        self.wholes += other.wholes
        self.edges += other.edges
        self.factors += other.factors
        self.frozen += other.frozen
        self.mixes += other.mixes
        self.tags += other.tags
        self.contracts += other.contracts


class Atoms:
    """Hands out slots and remembers them. `ids(key, axis, size)` always returns the same array for the same slot."""

    def __init__(self) -> None:
        self.slots: list[Slot] = []
        self.count = 1  # atom 0 is FROZEN
        self.inner: list[tuple[int, int]] = []  # first atom and length of every axis that exists inside an operator
        self.reasons: list[Refusal] = []
        self.titles: dict[int, tuple[str, str]] = {}
        self._arrays: list[Ids] = []
        self._index: dict[tuple[tuple[str, int, int], int], int] = {}
        self._slot_of: dict[int, int] = {}

    def ids(self, key: tuple[str, int, int], axis: int, size: int) -> Ids:
        found = self._index.get((key, axis))
        if found is not None:
            return self._arrays[found]
        array = np.arange(self.count, self.count + size, dtype=np.int64)
        array.flags.writeable = False
        self._index[key, axis] = len(self.slots)
        self._slot_of[id(array)] = len(self.slots)
        self.slots.append(Slot(key, axis, self.count, size))
        self._arrays.append(array)
        self.count += size
        return array

    def fresh(self, size: int) -> Ids:
        """Atoms that belong to no tensor: a factor that no value carries on an axis of its own."""
        array = np.arange(self.count, self.count + size, dtype=np.int64)
        self.inner.append((self.count, size))
        self.count += size
        return array

    def slot_of(self, ids: Ids) -> int | None:
        """The slot whose entire array `ids` is (the same object), else None."""
        return self._slot_of.get(id(ids))

    def slot_at(self, key: tuple[str, int, int], axis: int) -> int | None:
        return self._index.get((key, axis))

    def conflict(self, node: int) -> Refusal:
        """The reason for a factorisation by `node` that cannot be reconciled with another of the same axis."""
        title, op = self.titles.get(node, (f"node {node}", "?"))
        return Refusal(title, op, "", -1, "it splits an axis in a way that does not nest with another split of it")

    def reason(self, refusal: Refusal) -> int:
        self.reasons.append(refusal)
        return len(self.reasons) - 1


class Link:
    """What a rule is given to speak with, for one node. Nothing counts until the rule returns (see `Atoms`)."""

    def __init__(self, atoms: Atoms, node: int, title: str, op: str) -> None:
        self._atoms, self._node, self._title, self._op = atoms, node, title, op
        atoms.titles[node] = (title, op)
        self.recorded = Links()

    def same(self, a: Ids, b: Ids) -> None:
        """Indices of a and b survive together, pairwise. Equal lengths, or Decline."""
        if len(a) != len(b):
            help = "bind inputs to sizes at which the model runs, with --bind or --input-shapes"
            raise Decline(f"axes of length {len(a)} and {len(b)} cannot be linked", help)
        one, two = self._atoms.slot_of(a), self._atoms.slot_of(b)
        if one is not None and two is not None:
            self.recorded.wholes.append((one, two))
        else:
            self.recorded.edges.append((a, b))

    def same_axes(self, x: Operand, y: Operand, skip: int | Sequence[int] = ()) -> None:
        """Axes of two tensors of equal rank are the same, axis by axis, except those in `skip`."""
        skipped = {skip} if isinstance(skip, int) else set(skip)
        for axis in range(x.rank):
            if axis not in skipped:
                self.same(x[axis], y[axis])

    def contract(self, x: Operand, axis: int, w: Ids | None = None, zero: Operand | None = None) -> None:
        """Axis `axis` of the input `x` is summed over here (with `w`): zeroing it there proves a removal exact.

        `zero` is the input with x's zero point, one element, where x is quantised.
        """
        ids = x[axis]  # reading it marks the axis as treated
        if w is not None:
            self.same(ids, w)
        position = None if zero is None else zero.position
        self.recorded.contracts.append((self._node, x.position, axis % x.rank, position))

    def factor(self, flat: Ids, shape: Sequence[int], parts: Sequence[Ids]) -> None:
        """The axis `flat` is the row-major product of `parts`, of lengths `shape`. Parts of length 1 are skipped."""
        if len(flat) != int(np.prod(shape)) or any(len(p) != n for p, n in zip(parts, shape, strict=True)):
            raise Decline(f"an axis of {len(flat)} is not the product of {tuple(shape)}")
        real = [(n, p) for n, p in zip(shape, parts, strict=True) if n > 1]
        if len(real) == 1:
            self.same(flat, real[0][1])
        elif real:
            self.recorded.factors.append(Factor(flat, tuple(n for n, _ in real), tuple(p for _, p in real), self._node))

    def fresh(self, size: int) -> Ids:
        """Atoms of an axis that exists inside the operator only."""
        return self._atoms.fresh(size)

    def freeze(self, ids: Ids, why: str, help: str = "", at: tuple[str, int] | None = None) -> None:
        """These indices must stay, and why."""
        if len(ids) == 1 and at is None and self._atoms.slot_of(ids) is not None:
            return  # an axis of length 1 stays anyhow
        self.recorded.frozen.append((ids, self._reason(ids, why, help, at)))

    def mix(self, ids: Ids, why: str) -> None:
        """These indices may go, but a statistic runs over them and changes: the unit is not exact."""
        self.recorded.mixes.append((ids, self._reason(ids, why, "", None)))

    def tag(self, ids: Ids, word: str) -> None:
        """What a person would call these indices: "heads", "head_dims", "channels", "width", "experts"."""
        self.recorded.tags.append((ids, word))

    def _reason(self, ids: Ids, why: str, help: str, at: tuple[str, int] | None) -> int:
        slot = self._atoms.slot_of(ids)
        if at is None and slot is not None:
            at = (self._atoms.slots[slot].tensor, self._atoms.slots[slot].axis)
        tensor, axis = at or ("", -1)
        return self._atoms.reason(Refusal(self._title, self._op, tensor, axis, why, help))


class Operand:
    """A tensor as a rule sees it at one node: its shape and, per axis, its atom ids.

    `x[axis]` is the id array of an axis (negative axes count from the back); axes of length 1 are never linked, and
    reading one gives an array of one atom that nothing else shares. `position` is the input's or output's place.
    `is_constant`: it follows from what is stored in the file alone, no input of the model has a part in it.
    """

    __slots__ = ("_atoms", "dtype", "is_constant", "key", "name", "position", "rank", "shape", "touched", "value")

    def __init__(
        self, atoms: Atoms, key: tuple[str, int, int], name: str, shape: tuple[int, ...], dtype: int, position: int,
        value: np.ndarray | None, is_constant: bool,
    ) -> None:  # fmt: skip
        self._atoms, self.key, self.rank = atoms, key, len(shape)
        self.name, self.shape, self.dtype, self.position = name, shape, dtype, position
        self.value, self.is_constant = value, is_constant
        self.touched: set[int] = set()

    def __getitem__(self, axis: int) -> Ids:
        if not -self.rank <= axis < self.rank:
            raise Decline(f"{self.name} has no axis {axis}")
        axis %= self.rank
        self.touched.add(axis)
        return self._atoms.ids(self.key, axis, self.shape[axis])

    def ignore(self, *axes: int) -> None:
        """These axes (all, if none is named) are nobody's business here: neither linked nor frozen by this node."""
        self.touched.update(a % self.rank for a in axes) if axes else self.touched.update(range(self.rank))

    def __repr__(self) -> str:
        return f"Operand({self.name!r}, {self.shape})"
