"""Rows that are kept as they are: for fits that moments alone do not serve."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnxprune.runtime.pairs import Pair

LIMIT = 1 << 28
"""Bytes of rows and aims that are kept of one consumer."""

Kept = tuple[np.ndarray, np.ndarray, np.ndarray | None]
"""Rows [groups, n, D], aims [groups, n, K], and what was taken off these (None: nothing); float32."""


@dataclass(frozen=True)
class KeptRows:
    """Rows x [groups, N, D], targets [groups, N, K], and what was taken off these (None: nothing); float32."""

    x: np.ndarray
    target: np.ndarray
    shift: np.ndarray | None


class RowStore:
    """Takes pairs of rows and aims in, at most `limit` bytes of them; iterates over them in chunks.

    Where so many `samples` are expected, every so many rows of each are taken, so that they fit. Else the first ones
    are: data comes in random order.
    """

    def __init__(self, samples: int | None = None, limit: int = LIMIT) -> None:
        self._samples, self._limit = samples or 1, limit
        self._every, self._next, self._held = 0, 0, 0
        self._chunks: list[Kept] = []

    @property
    def nbytes(self) -> int:
        """What is held now."""
        return self._held

    def append(self, pair: Pair) -> None:
        """Take in some rows with aims, as long as there is room. Raises ValueError for rows without."""
        if pair.aims is None:
            raise ValueError("rows without aims")
        every = self._thinning(pair)
        start = (-self._next) % every
        self._next += pair.rows.shape[1]
        some = slice(start, None, every)
        rows, aims, added = pair.rows[:, some], pair.aims[:, some], None if pair.added is None else pair.added[:, some]
        size = rows.nbytes + aims.nbytes + (0 if added is None else added.nbytes)
        if self._held + size > self._limit:
            return
        self._held += size
        # copies: a part may be a view of a whole batch
        self._chunks.append((rows.copy(), aims.copy(), None if added is None else added.copy()))

    def _thinning(self, pair: Pair) -> int:
        if not self._every:
            arrays = (pair.rows, pair.aims, pair.added)
            whole = sum(array.nbytes for array in arrays if array is not None) * self._samples
            self._every = max(1, math.ceil(whole / self._limit))
        return self._every

    def __iter__(self) -> Iterator[Kept]:
        return iter(self._chunks)

    def result(self) -> KeptRows | None:
        """All that was kept, None where nothing was; the store is empty then."""
        chunks, self._chunks, self._held = self._chunks, [], 0
        if not chunks:
            return None
        x, target = (np.concatenate([chunk[k] for chunk in chunks], axis=1) for k in (0, 1))
        shifts = [added for _, _, added in chunks if added is not None]
        return KeptRows(x, target, np.concatenate(shifts, axis=1) if shifts else None)
