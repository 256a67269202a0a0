"""Rows that are kept as they are, evenly over the data: for fits that moments alone do not serve."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onnxprune.runtime.data import Batch
from onnxprune.runtime.pairs import PairReader
from onnxprune.runtime.rows import Named, Tokens

LIMIT = 1 << 28
"""Bytes of rows and targets that are kept of one consumer."""


@dataclass(frozen=True)
class KeptRows:
    """Rows x [groups, N, D], targets [groups, N, K], and what was taken off these (None: nothing); float32."""

    x: np.ndarray
    target: np.ndarray
    shift: np.ndarray | None


class RowStore:
    """Takes pairs of rows and aims in, each of them or every so many, by what fits; `samples` are expected."""

    def __init__(self, reader: PairReader, samples: int | None, limit: int = LIMIT) -> None:
        self._reader, self._samples, self._limit = reader, samples or 1, limit
        self._every, self._next = 0, 0
        self._parts: list[tuple[np.ndarray, ...]] = []

    @property
    def nbytes(self) -> int:
        """What is held now."""
        return sum(array.nbytes for part in self._parts for array in part)

    def add(self, values: Named, batch: Batch, tokens: Tokens | None) -> None:
        """See Accumulator."""
        for pair in self._reader.read(values, batch, tokens):
            arrays = [array for array in pair if array is not None]
            if not self._every:
                whole = sum(array.nbytes for array in arrays) * self._samples
                self._every = max(1, math.ceil(whole / self._limit))
            start = (-self._next) % self._every
            self._next += arrays[0].shape[1]
            # copies: a part may be a view of a whole batch
            self._parts.append(tuple(array[:, start :: self._every].copy() for array in arrays))

    def result(self) -> KeptRows | None:
        """All that was kept, None where nothing was."""
        if not self._parts:
            return None
        x, target, *shift = (np.concatenate(parts, axis=1) for parts in zip(*self._parts, strict=True))
        self._parts = []
        return KeptRows(x, target, shift[0] if shift else None)
