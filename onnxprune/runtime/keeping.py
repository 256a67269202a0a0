"""Rows that are kept as they are, evenly over the data: for fits that moments alone do not serve."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onnxprune.runtime.consumers import Consumer
from onnxprune.runtime.data import Batch
from onnxprune.runtime.moments import Named
from onnxprune.runtime.rows import RowReader, Sampling, Tokens

LIMIT = 1 << 28
"""Bytes of rows and targets that are kept of one consumer."""


@dataclass(frozen=True)
class KeptRows:
    """Rows x [groups, N, D], targets [groups, N, K], and what was taken off these (None: nothing); float32."""

    x: np.ndarray
    target: np.ndarray
    shift: np.ndarray | None


class RowStore:
    """Takes the rows that RowProducts does of the same sampling, each of them or every so many, by what fits."""

    def __init__(
        self, consumer: Consumer, sampling: Sampling, model: str, target: tuple[str, str],
        minus: tuple[str, str] | None, samples: int | None, limit: int = LIMIT,
    ) -> None:  # fmt: skip
        self._reader, self._model, self._target, self._minus = RowReader(consumer, sampling), model, target, minus
        self._samples, self._limit = samples or 1, limit
        self._every, self._next = 0, 0
        self._parts: list[tuple[np.ndarray, ...]] = []

    @property
    def nbytes(self) -> int:
        """What is held now."""
        return sum(array.nbytes for part in self._parts for array in part)

    def add(self, values: Named, batch: Batch, tokens: Tokens | None) -> None:
        """See Accumulator."""
        target = values[self._target[0]][self._target[1]].astype(np.float32, copy=False)
        minus = None if self._minus is None else values[self._minus[0]][self._minus[1]].astype(np.float32, copy=False)
        aims = [target] if minus is None else [target - minus, np.broadcast_to(minus, target.shape)]
        reads = [self._reader.read(values[self._model], batch, tokens, aim) for aim in aims]
        for pieces in zip(*reads, strict=True):
            rows = pieces[0][0]
            arrays = [rows, *(aim for _, aim in pieces if aim is not None)]
            if not self._every:
                whole = sum(array.nbytes for array in arrays) * self._samples
                self._every = max(1, math.ceil(whole / self._limit))
            start = (-self._next) % self._every
            self._next += rows.shape[1]
            self._parts.append(tuple(np.ascontiguousarray(array[:, start :: self._every]) for array in arrays))

    def result(self) -> KeptRows | None:
        """All that was kept, None where nothing was."""
        if not self._parts:
            return None
        x, target, *shift = (np.concatenate(parts, axis=1) for parts in zip(*self._parts, strict=True))
        self._parts = []
        return KeptRows(x, target, shift[0] if shift else None)
