"""A consumer's rows with what they should give beside them, out of the values of one model or two."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np

from onnxprune.runtime.consumers import Consumer, Source
from onnxprune.runtime.data import Batch
from onnxprune.runtime.rows import Named, RowReader, Sampling, Tokens


class Pair(NamedTuple):
    """Rows [groups, n, D] of a sample, their aims [groups, n, K] if there is a target, and what was taken off these."""

    sample: int
    rows: np.ndarray
    aims: np.ndarray | None = None
    added: np.ndarray | None = None


class PairReader:
    """Rows that a consumer reads in `model`; with `target` (model, value) what stands there at the same places.

    `minus` (model, value) is taken off the target: a shortcut that is added later. `take` are the indices of the
    target along the consumer's output axis that are meant, where the consumer's model has lost the others; `minus`
    has lost them, too.
    """

    def __init__(
        self,
        consumer: Consumer,
        sampling: Sampling,
        *,
        model: str = "",
        target: tuple[str, str] | None = None,
        minus: tuple[str, str] | None = None,
        take: np.ndarray | None = None,
    ) -> None:
        self.consumer = consumer
        self._reader, self._model = RowReader(consumer, sampling), model
        self._target, self._minus, self._take = target, minus, take

    @property
    def reads(self) -> Collection[tuple[str, str]]:
        """See Accumulator."""
        return [*reads(self.consumer.source, self._model), *(p for p in (self._target, self._minus) if p)]

    def read(self, values: Named, batch: Batch, tokens: Tokens | None) -> Iterator[Pair]:
        """The pairs of a batch (float32), a chunk at a time."""
        aims: list[np.ndarray] = []
        if self._target is not None:
            aim = values[self._target[0]][self._target[1]].astype(np.float32, copy=False)
            if self._take is not None and self.consumer.output is not None:
                aim = np.take(aim, self._take, axis=self.consumer.output[1])
            aims.append(aim)
            if self._minus is not None:
                minus = values[self._minus[0]][self._minus[1]].astype(np.float32, copy=False)
                aims = [aim - minus, minus]
        for sample, arrays in self._reader.read(values[self._model], batch, tokens, *aims):
            yield Pair(sample, *arrays)


def reads(source: Source, model: str) -> list[tuple[str, str]]:
    """The (model, value) pairs that a source's numbers are made of."""
    return [(model, name) for name in (source.tensor, source.zero, source.scale) if name is not None]
