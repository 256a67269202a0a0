"""Bundles: classes that go because others do. A flat axis is a product, and loses what any of its parts loses.

In every row of a factor record a *child* (an atom of the flat axis) goes if and only if any of its *parents* (the
parts' atoms at its coordinates) goes. `Bundles` spreads what follows from that over the classes:

- a frozen child freezes its parents; a child all of whose parents are frozen is frozen;
- a child with exactly one unfrozen parent is that parent.

What is left are edges from parents to children. Classes without parents are *roots*: what can be chosen. The rows hold
for every choice of roots exactly if in each row the child's roots are its parents' roots taken together; `conflicts`
are the rows where they are not. Some of them are settled by joining what must go together (`forced_joins`):

- parents with the same children along a slab of their records are one: either goes when the whole slab goes;
- where two rows have the same child and the same parents but for one each, these two are one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxprune.coupling.atoms import Factor
from onnxprune.coupling.classes import NO_REASON, Classes
from onnxprune.coupling.runs import distinct, numbered, ragged

_SEED = 20240229  # words of a hash; any seed will do, a fixed one makes results repeatable


class Bundles:
    """Factor records flattened to rows, over `classes`, which is changed in place.

    Row i has `child[i]` and stems from `node[i]`; its parents are `parent[k]` where `row[k] == i` (all atom ids).
    `block[i]` numbers the record, and within it the coordinates on parts that are frozen throughout.
    """

    def __init__(self, classes: Classes, factors: Sequence[Factor]) -> None:
        self.classes = classes
        factors = spread_over_records(classes, factors)
        child, node, block, row, parent, same = [], [], [], [], [], []
        count = blocks = 0
        for factor in factors:
            frozen = [classes.is_frozen(part) for part in factor.parts]
            live = [_column(factor, k, part) for k, part in enumerate(factor.parts) if not frozen[k]]
            if len(live) == 1:  # all else is frozen: the flat axis repeats this part
                same.append((factor.flat, live[0]))
                continue
            size = len(factor.flat)
            fixed = [n if still else 1 for n, still in zip(factor.shape, frozen, strict=True)]
            numbers = np.arange(blocks, blocks + int(np.prod(fixed))).reshape(fixed)
            block.append(np.broadcast_to(numbers, factor.shape).reshape(-1))
            blocks += numbers.size
            child.append(factor.flat)
            node.append(np.full(size, factor.node, np.int64))
            row += [np.arange(count, count + size)] * len(live)
            parent += live
            count += size
        if same:
            label = classes.label
            classes.join(*(np.concatenate([label[ids] for ids in side]) for side in zip(*same, strict=True)))
        empty = np.empty(0, np.int64)
        self.child, self.node, self.block, self.row, self.parent = (
            np.concatenate(x) if x else empty for x in (child, node, block, row, parent)
        )

    def settle(self) -> None:
        """Freeze and join what the rows say must be, until nothing changes."""
        label = self.classes.label
        while len(self.child):
            self._spread_frozen()
            child, parent = label[self.child], label[self.parent]
            live = ~self.classes.frozen[parent]
            low = np.full(len(child), NO_REASON, np.int64)
            high = np.full(len(child), -1, np.int64)
            np.minimum.at(low, self.row[live], parent[live])
            np.maximum.at(high, self.row[live], parent[live])
            single = (low == high) & (low != child)
            if not single.any():
                return
            self.classes.join(child[single], low[single])
            label = self.classes.label

    def _spread_frozen(self) -> None:
        classes = self.classes
        child, parent = classes.label[self.child], classes.label[self.parent]
        changed = True
        while changed:
            stuck = classes.frozen[child][self.row] & ~classes.frozen[parent]
            changed = classes.freeze(parent[stuck], classes.reason[child[self.row[stuck]]])
            alive = np.zeros(len(child), bool)
            alive[self.row[~classes.frozen[parent]]] = True
            dead = ~alive & ~classes.frozen[child]
            if dead.any():
                why = np.full(len(child), NO_REASON, np.int64)
                np.minimum.at(why, self.row, classes.reason[parent])
                changed |= classes.freeze(child[dead], why[dead])

    def edges(self) -> tuple[np.ndarray, np.ndarray]:
        """Distinct pairs (parent, child) of unfrozen classes, sorted."""
        if not len(self.child):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        label, frozen, count = self.classes.label, self.classes.frozen, len(self.classes)
        child, parent = label[self.child][self.row], label[self.parent]
        live = ~frozen[parent] & ~frozen[child] & (parent != child)
        pairs = distinct(parent[live] * count + child[live])
        return pairs // count, pairs % count

    def closure(self, parent: np.ndarray, child: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distinct pairs (root, class that goes with it, itself included), sorted, for the classes that have edges."""
        count = len(self.classes)
        is_child = np.zeros(count, bool)
        is_child[child] = True
        roots = distinct(parent[~is_child[parent]])
        pairs = new = roots * (count + 1)
        while len(new):
            low = np.searchsorted(parent, new % count, "left")
            owner, index = ragged(low, np.searchsorted(parent, new % count, "right") - low)
            new = distinct((new // count)[owner] * count + child[index])
            new = new[pairs[np.minimum(np.searchsorted(pairs, new), len(pairs) - 1)] != new]
            pairs = np.sort(np.concatenate([pairs, new]), kind="stable")
        return pairs // count, pairs % count

    def conflicts(self, root: np.ndarray, below: np.ndarray) -> np.ndarray:
        """Rows whose child's roots are not its parents' roots together, or that lie on a circle of parents.

        `root` and `below` are the closure's pairs.
        """
        classes, count = self.classes, len(self.classes)
        child, parent = classes.label[self.child], classes.label[self.parent]
        order = np.argsort(below, kind="stable")
        root, below = root[order], below[order]
        low, high = np.searchsorted(below, parent, "left"), np.searchsorted(below, parent, "right")
        owner, index = ragged(low, high - low)
        together = distinct(self.row[owner] * count + root[index]) // count
        union = np.bincount(together, minlength=len(child))
        roots = np.searchsorted(below, child, "right") - np.searchsorted(below, child, "left")
        # A child has at least the roots of its parents, so that equal numbers are equal sets.
        lost = np.zeros(len(child), bool)  # unfrozen, with a parent other than itself, and yet under no root
        lost[self.row[~classes.frozen[parent] & (parent != child[self.row])]] = True
        return np.flatnonzero((union != roots) | (lost & (roots == 0) & ~classes.frozen[child]))

    def forced_joins(self, bad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of classes that must be one for the conflicting rows `bad` to hold; none where nothing is forced."""
        word = np.random.default_rng(_SEED).integers(1, 2**63, (2, len(self.classes)), dtype=np.uint64)
        slabs, omissions = self._equal_slabs(word[0]), self._equal_but_one(bad, word)
        return np.concatenate([slabs[0], omissions[0]]), np.concatenate([slabs[1], omissions[1]])

    def _equal_slabs(self, word: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        child, parent, block = self._live(np.ones(len(self.child), bool))[1:]
        slab, first = numbered(parent * (int(self.block.max()) + 1) + block)
        pairs = distinct(slab * len(self.classes) + child)
        total = np.zeros(len(first), np.uint64)
        np.add.at(total, pairs // len(self.classes), word[pairs % len(self.classes)])
        return _differing(total, parent[first])

    def _equal_but_one(self, bad: np.ndarray, word: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        within = np.zeros(len(self.child), bool)
        within[bad] = True
        row, child, parent, _ = self._live(within)
        first = numbered(row * len(self.classes) + parent)[1]
        row, child, parent = row[first], child[first], parent[first]
        total = np.zeros(len(self.child), np.uint64)
        np.add.at(total, row, word[0][parent])
        several = np.bincount(row, minlength=len(self.child))[row] > 1
        rest = total[row] - word[0][parent] + word[1][child]
        return _differing(rest[several], parent[several])

    def _live(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Row, child's class, parent's class and block of every edge within `rows` between unfrozen classes."""
        child, parent = self.classes.label[self.child][self.row], self.classes.label[self.parent]
        live = rows[self.row] & ~self.classes.frozen[child] & ~self.classes.frozen[parent]
        return self.row[live], child[live], parent[live], self.block[self.row[live]]


def spread_over_records(classes: Classes, factors: Sequence[Factor]) -> list[Factor]:
    """Spread what is frozen over entire records; those that say nothing more are left out.

    It turns most big records (channels x height x width) into plain links or nothing before they are written out.
    """
    remaining, changed = list(factors), True
    while changed:
        changed, kept = False, []
        for factor in remaining:
            flat, parts = classes.label[factor.flat], [classes.label[part] for part in factor.parts]
            if classes.frozen[flat].all():
                why = int(classes.reason[flat].min())
                for part in parts:
                    changed |= classes.freeze(part, why)
            elif all(classes.frozen[part].all() for part in parts):
                changed |= classes.freeze(flat, min(int(classes.reason[part].min()) for part in parts))
            else:
                kept.append(factor)
        remaining = kept
    return remaining


def _column(factor: Factor, k: int, part: np.ndarray) -> np.ndarray:
    """Part k's atom for each index of the flat axis."""
    shape = [n if i == k else 1 for i, n in enumerate(factor.shape)]
    return np.broadcast_to(part.reshape(shape), factor.shape).reshape(-1)


def _differing(key: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of different values that have the same key."""
    order = np.argsort(key, kind="stable")
    key, value = key[order], value[order]
    pair = (key[1:] == key[:-1]) & (value[1:] != value[:-1])
    return value[1:][pair], value[:-1][pair]
