"""What a chain of reshapes and transposes does to the axes of a tensor, as factors of its axes that are moved about."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Shape = tuple[int, ...]


class Regrouping:
    """Follows a tensor of a given shape: `axes` are its axes now, `source` those it began with, as lists of factors.

    A factor is a number; `size[factor]` is its length. Axes are row-major products of their factors; an axis of
    length 1 has none.
    """

    def __init__(self, shape: Shape) -> None:
        self.size: list[int] = []
        self.source = [[self._new(n)] if n > 1 else [] for n in shape]
        self.axes = [list(factors) for factors in self.source]

    def _new(self, size: int) -> int:
        self.size.append(size)
        return len(self.size) - 1

    def transpose(self, perm: Sequence[int]) -> None:
        self.axes = [self.axes[a] for a in perm]

    def reshape(self, shape: Shape) -> bool:
        """Regroup into `shape`, splitting factors where needed; False where one would not split evenly."""
        row, axes = [f for factors in self.axes for f in factors], []
        for length in shape:
            factors: list[int] = []
            while length > 1:
                if not row:
                    return False
                size = self.size[row[0]]
                if size > length and size % length == 0:
                    row[:1] = self._split(row[0], length)
                elif length % size:
                    return False
                factors.append(row.pop(0))
                length //= self.size[factors[-1]]
            axes.append(factors)
        self.axes = axes
        return not row

    def _split(self, factor: int, outer: int) -> tuple[int, int]:
        """Replace a factor by two, of lengths `outer` and the rest. The caller replaces it where it is now."""
        parts = self._new(outer), self._new(self.size[factor] // outer)
        for axis in self.source:
            if factor in axis:
                at = axis.index(factor)
                axis[at : at + 1] = parts
        return parts

    def origin(self) -> list[int] | None:
        """Per axis now the one axis of the beginning whose factors it consists of; None where axes are mixed."""
        if len(self.axes) != len(self.source):
            return None
        found: list[int] = []
        for now in self.axes:
            same = [a for a, then in enumerate(self.source) if sorted(then) == sorted(now) and a not in found]
            if not same:
                return None
            found.append(same[0])
        return found

    def order(self, now: int, then: int) -> np.ndarray:
        """Indices (int64) of the axis `then` of the beginning in the order in which the axis `now` has them."""
        factors = self.source[then]
        sizes = [self.size[f] for f in factors]
        indices = np.arange(int(np.prod(sizes)), dtype=np.int64).reshape(sizes)
        return indices.transpose([factors.index(f) for f in self.axes[now]]).reshape(-1)
