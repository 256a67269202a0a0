"""Sums over a stream of activations, in float64, the same to the bit however the stream is cut into batches.

Sums of one sample are taken at once and added up sample by sample; products of rows are taken in blocks of a fixed
number of rows, filled in the order of the stream, in float32, and added up in float64.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import numpy as np

from onnxprune.runtime.consumers import Consumer, Source
from onnxprune.runtime.data import Batch
from onnxprune.runtime.pairs import Pair, PairReader, reads
from onnxprune.runtime.rows import CHUNK, Named, Tokens, decoded, per_sample

CHANNEL_KINDS = ("mean", "second", "abs", "zeros")
"""Per index of an axis: mean, mean of squares, mean of magnitudes, share of zeros."""

# Every consumer holds a block: large enough that its product outweighs adding it up, small enough for hundreds of them.
_BLOCK_ELEMENTS = 1 << 20
_BLOCK_ROWS = (256, 4096)


class Accumulator(Protocol):
    """What `stream` feeds batch after batch."""

    @property
    def reads(self) -> Collection[tuple[str, str]]:
        """The (model, value) pairs that `add` looks at."""

    @property
    def nbytes(self) -> int:
        """Memory that it holds, whatever the data's size."""

    def add(self, values: Named, batch: Batch, tokens: Tokens | None) -> None:
        """Take in one batch."""


class ChannelSums:
    """Per-index statistics of a source, of the kinds asked for (CHANNEL_KINDS)."""

    def __init__(self, source: Source, kinds: Collection[str], model: str = "") -> None:
        self._source, self._model = source, model
        self._sums = {kind: np.zeros(source.size) for kind in CHANNEL_KINDS if kind in kinds}
        self._count = 0

    @property
    def reads(self) -> Collection[tuple[str, str]]:
        """See Accumulator."""
        return reads(self._source, self._model)

    @property
    def nbytes(self) -> int:
        """See Accumulator."""
        return sum(sums.nbytes for sums in self._sums.values())

    def add(self, values: Named, batch: Batch, tokens: Tokens | None) -> None:
        """See Accumulator."""
        axis = self._source.axis
        x = decoded(self._source, values[self._model])
        keep = None if tokens is None else tokens.over(x.shape, axis)
        parts = [part for _, part in per_sample(x, axis, batch)]
        if keep is not None:
            masks = [mask for _, mask in per_sample(keep, 1, batch)]
            parts = [np.moveaxis(part, axis, -1)[mask] for part, mask in zip(parts, masks, strict=True)]
            axis = 1
        for part in parts:
            self._add_sample(part, axis)

    def _add_sample(self, part: np.ndarray, axis: int) -> None:
        size = self._source.size
        shaped = part.reshape(int(np.prod(part.shape[:axis])), size, -1)
        self._count += shaped.shape[0] * shaped.shape[2]
        step = max(1, CHUNK // 4 * size // max(1, shaped.size))
        for start in range(0, size, step):
            block = shaped[:, start : start + step].astype(np.float64)
            for kind, sums in self._sums.items():
                sums[start : start + step] += _SUMS[kind](block)

    def result(self) -> dict[str, np.ndarray]:
        """Each kind's mean over all places (float64 [size]), and `count`, how many there were."""
        found = {kind: sums / max(self._count, 1) for kind, sums in self._sums.items()}
        return {**found, "count": np.asarray(self._count, np.int64)}


_SUMS = {
    "mean": lambda x: x.sum(axis=(0, 2)),
    "second": lambda x: np.einsum("abc,abc->b", x, x),
    "abs": lambda x: np.abs(x).sum(axis=(0, 2)),
    "zeros": lambda x: (x == 0).sum(axis=(0, 2)),
}


class RowProducts:
    """Products of rows with themselves, and with their aims where there are any.

    Means over the rows of all places: `second` [groups, D, D] of x xᵀ and `mean` [groups, D] of x; with aims t [K]
    `cross` [groups, D, K] of x tᵀ, `target_mean` and `target_second` [groups, K]; `rows`.
    """

    def __init__(self, pairs: PairReader) -> None:
        self._pairs, self._consumer = pairs, pairs.consumer
        consumer = pairs.consumer
        groups, features = consumer.groups, consumer.features
        self._second = np.zeros((groups, features, features))
        self._mean = np.zeros((groups, features))
        self._rows = 0
        self._cross: np.ndarray | None = None
        self._size = _block_rows(consumer)
        self._block = np.empty((groups, self._size, features), np.float32)
        self._aims: np.ndarray | None = None
        self._filled = 0

    @property
    def reads(self) -> Collection[tuple[str, str]]:
        """See Accumulator."""
        return self._pairs.reads

    @property
    def nbytes(self) -> int:
        """See Accumulator; the products with a target come on top once its width is seen."""
        targets = (self._cross, self._aims)
        return self.bytes_for(self._consumer) + sum(array.nbytes for array in targets if array is not None)

    @staticmethod
    def bytes_for(consumer: Consumer) -> int:
        """What the sums of a consumer's rows take: themselves (float64), a block of rows, and its product (float32)."""
        groups, features = consumer.groups, consumer.features
        return groups * features * (12 * features + 8 + 4 * _block_rows(consumer))

    def add(self, values: Named, batch: Batch, tokens: Tokens | None) -> None:
        """See Accumulator."""
        for pair in self._pairs.read(values, batch, tokens):
            self.append(pair)

    def append(self, pair: Pair) -> None:
        """Take in rows and aims that were read elsewhere."""
        rows, aims = pair.rows, pair.aims
        if aims is not None and self._aims is None:
            groups, _, width = aims.shape
            self._aims = np.empty((groups, self._size, width), np.float32)
            self._cross = np.zeros((groups, self._consumer.features, width))
            self._aim_mean, self._aim_second = np.zeros((groups, width)), np.zeros((groups, width))
        taken, count = 0, rows.shape[1]
        while taken < count:
            some = min(count - taken, self._size - self._filled)
            self._block[:, self._filled : self._filled + some] = rows[:, taken : taken + some]
            if aims is not None and self._aims is not None:
                self._aims[:, self._filled : self._filled + some] = aims[:, taken : taken + some]
            taken, self._filled = taken + some, self._filled + some
            if self._filled == self._size:
                self._flush()

    def _flush(self) -> None:
        block = self._block[:, : self._filled]
        self._second += _transposed_times(block, block)
        self._mean += block.sum(axis=1, dtype=np.float64)
        if self._aims is not None and self._cross is not None:
            aims = self._aims[:, : self._filled]
            self._cross += _transposed_times(block, aims)
            self._aim_mean += aims.sum(axis=1, dtype=np.float64)
            self._aim_second += np.einsum("gnk,gnk->gk", aims, aims, dtype=np.float64)
        self._rows += self._filled
        self._filled = 0

    def result(self) -> dict[str, np.ndarray]:
        """The means by name (float64), and `rows`, how many there were (int64)."""
        if self._filled:
            self._flush()
        count = max(self._rows, 1)
        symmetric = (self._second + self._second.transpose(0, 2, 1)) / (2 * count)
        found = {"second": symmetric, "mean": self._mean / count, "rows": np.asarray(self._rows, np.int64)}
        if self._cross is not None:
            found |= {
                "cross": self._cross / count,
                "target_mean": self._aim_mean / count,
                "target_second": self._aim_second / count,
            }
        return found


def _block_rows(consumer: Consumer) -> int:
    rows = _BLOCK_ELEMENTS // max(1, consumer.groups * consumer.features)
    return min(max(rows, _BLOCK_ROWS[0]), _BLOCK_ROWS[1])


def _transposed_times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """aᵀ b per group. One matrix with itself is a symmetric product for BLAS, half the work; a stack would not be."""
    if len(a) == 1:
        return np.asarray((a[0].T @ b[0])[None])
    return np.asarray(np.matmul(a.transpose(0, 2, 1), b))
