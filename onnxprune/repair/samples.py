"""Rows and what they should give, held in memory: what lies behind a Relu takes more than moments."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

LIMIT = 1 << 25
"""Elements (float32) that are held at most of a layer's rows and aims; what comes later is not taken in."""


class Samples:
    """Rows [groups, n, D], their aims [groups, n, K] and what is added to these before the next operator, in chunks.

    Data comes in random order, so the first rows stand for all.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit, self._held = limit, 0
        self._chunks: list[tuple[np.ndarray, np.ndarray, np.ndarray | None]] = []

    @property
    def nbytes(self) -> int:
        """Memory that it holds."""
        return self._held * np.dtype(np.float32).itemsize

    def append(self, rows: np.ndarray, aims: np.ndarray, added: np.ndarray | None) -> None:
        """Take in some rows, as long as there is room."""
        size = rows.size + aims.size + (0 if added is None else added.size)
        if self._held + size > self._limit:
            return
        self._held += size
        # copies: a chunk may be a view of a whole batch
        self._chunks.append((rows.copy(), aims.copy(), None if added is None else added.copy()))

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
        return iter(self._chunks)
