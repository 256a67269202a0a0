"""Classes of atoms that survive together, while they are being solved: joined, frozen, never split."""

from __future__ import annotations

import numpy as np

from onnxprune.coupling.atoms import FROZEN, Ids
from onnxprune.coupling.components import components

NO_REASON = np.iinfo(np.int64).max


class Classes:
    """`label[atom]` is the atom's class (int64). Per class: `frozen` (bool), and `reason` (int64), the index of the
    first reason for it, or NO_REASON. What was joined leaves numbers behind that no atom has, until `compact`.
    """

    def __init__(self, label: np.ndarray, count: int) -> None:
        """Labels are numbers below `count`."""
        self.label = label
        self.frozen = np.zeros(count, bool)
        self.reason = np.full(count, NO_REASON, np.int64)
        self.frozen[label[FROZEN]] = True

    def __len__(self) -> int:
        return len(self.frozen)

    def is_frozen(self, ids: Ids) -> bool:
        """Whether all of these atoms are frozen."""
        return bool(self.frozen[self.label[ids]].all())

    def freeze(self, classes: np.ndarray, why: np.ndarray | int) -> bool:
        """Freeze classes; of several reasons the earliest counts. Whether any of them was not frozen before."""
        new = ~self.frozen[classes]
        if not new.any():
            return False
        classes = classes[new]
        np.minimum.at(self.reason, classes, why if isinstance(why, int) else why[new])
        self.frozen[classes] = True
        return True

    def join(self, a: np.ndarray, b: np.ndarray) -> None:
        """Make classes a[i] and b[i] one; frozen if either was, with the earlier reason."""
        named = np.zeros(len(self), bool)
        named[a] = named[b] = True
        here = np.flatnonzero(named)
        number = np.empty(len(self), np.int64)
        number[here] = np.arange(len(here))
        group = components(len(here), number[a], number[b])
        first = np.empty(len(here), np.int64)
        first[group[::-1]] = here[::-1]
        joined = first[group]
        still = self.frozen[here]
        self.frozen[joined[still]] = True
        np.minimum.at(self.reason, joined[still], self.reason[here[still]])
        target = np.arange(len(self))
        target[here] = joined
        self.label = target[self.label]

    def compact(self) -> None:
        """Number the classes that atoms have anew, from 0 on, in the order that they are in."""
        used = np.zeros(len(self), bool)
        used[self.label] = True
        old = np.flatnonzero(used)
        number = np.empty(len(self), np.int64)
        number[old] = np.arange(len(old))
        self.label, self.frozen, self.reason = number[self.label], self.frozen[old], self.reason[old]

    def add(self, size: int) -> None:
        """Append `size` atoms, each a class of its own."""
        self.label = np.concatenate([self.label, np.arange(len(self), len(self) + size)])
        self.frozen = np.concatenate([self.frozen, np.zeros(size, bool)])
        self.reason = np.concatenate([self.reason, np.full(size, NO_REASON, np.int64)])
