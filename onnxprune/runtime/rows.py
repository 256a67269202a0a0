"""From activations to rows: what a consumer's weights are multiplied with, one row per place of its output.

Rows are drawn per sample, by the seed, the sample's number and how many places it has: the same ones whatever the
batches are, and the same for a consumer's input and its output, so that both can be paired.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from onnxprune.runtime.consumers import Consumer, Source
from onnxprune.runtime.data import Batch

CHUNK = 1 << 22  # elements of rows that are made at a time
_BY_HEAD = 4  # rank of [N, heads, S, head size]

Values = Mapping[str, np.ndarray]

Named = Mapping[str, Values]
"""Values by the name of the model that gave them, then by their own."""


@dataclass(frozen=True)
class Sampling:
    """At most `positions` rows of each sample (None: all), drawn with `seed`."""

    positions: int | None = 256
    seed: int = 0

    def draw(self, sample: int, places: int, allowed: np.ndarray | None = None) -> np.ndarray:
        """The drawn places (sorted int64) of `places`, of those that are true in `allowed` if given."""
        candidates = np.arange(places) if allowed is None else np.flatnonzero(allowed)
        if self.positions is None or len(candidates) <= self.positions:
            return candidates
        rng = np.random.default_rng([self.seed, sample, places])
        return np.sort(rng.choice(candidates, self.positions, replace=False))


@dataclass(frozen=True)
class Tokens:
    """Which of a batch's tokens are real: `keep` is bool [samples, sequence]."""

    keep: np.ndarray

    def over(self, shape: tuple[int, ...], axis: int) -> np.ndarray | None:
        """Which places of a value count, bool of its shape without `axis`; None where it has no axis of tokens.

        The value is [samples, ..., sequence, ...] or has both in its first axis. Where two axes are as long as the
        sequence, the one after the heads is meant in [samples, heads, sequence, size], else the first.
        """
        samples, sequence = self.keep.shape
        rest = tuple(size for a, size in enumerate(shape) if a != axis)
        if axis and shape[0] == samples * sequence != samples:
            return np.broadcast_to(self.keep.reshape(-1, *[1] * (len(rest) - 1)), rest)
        if not axis or shape[0] != samples:
            return None
        places = [a for a in range(1, len(shape)) if a != axis and shape[a] == sequence]
        if not places:
            return None
        by_head = len(shape) == _BY_HEAD and axis == _BY_HEAD - 1 and len(places) > 1
        place = places[-1] if by_head else places[0]
        place -= place > axis
        spread = [samples if a == 0 else sequence if a == place else 1 for a in range(len(rest))]
        return np.broadcast_to(self.keep.reshape(spread), rest)


def per_sample(array: np.ndarray, axis: int, batch: Batch) -> list[tuple[int, np.ndarray]]:
    """The parts of a value that belong to each sample, with the sample's number, along its first axis.

    A value whose first axis is `axis`, or no multiple of the batch, is one part: of the batch's first sample.
    """
    count = batch.size
    if axis == 0 or not array.ndim or len(array) % count:
        return [(batch.first, array)]
    step = len(array) // count
    return [(batch.first + k, array[k * step : (k + 1) * step]) for k in range(count)]


def decoded(source: Source, values: Values) -> np.ndarray:
    """A source's numbers: as they are, or with zero point and scale taken out where it is quantised."""
    array = values[source.tensor]
    if source.zero is not None:
        array = array.astype(np.float32) - np.asarray(values[source.zero]).astype(np.float32).reshape(())
    if source.scale is not None:
        array = array * np.asarray(values[source.scale]).astype(np.float32).reshape(())
    return array


class RowReader:
    """Makes a consumer's rows, and what values of its output's shape hold at the same places."""

    def __init__(self, consumer: Consumer, sampling: Sampling) -> None:
        self._consumer, self._sampling = consumer, sampling
        self._axis = consumer.source.axis

    def read(
        self, values: Values, batch: Batch, tokens: Tokens | None, *targets: np.ndarray
    ) -> Iterator[tuple[int, list[np.ndarray]]]:
        """A sample's number, with rows [groups, n, features] and each target's [groups, n, outputs of a block].

        Float32, a chunk of one sample at a time. `targets` are values of the shape of the consumer's output.
        """
        x = decoded(self._consumer.source, values)
        if self._consumer.window is not None:
            tokens = None
        keep = None if tokens is None else tokens.over(x.shape, self._axis)
        parts = per_sample(x, self._axis, batch)
        kept = [None] * len(parts) if keep is None else [k for _, k in per_sample(keep, 1, batch)]
        output = 0 if self._consumer.output is None else self._consumer.output[1]
        aims = [
            [np.moveaxis(part, output, -1) for _, part in per_sample(target, output, batch)]
            if len(parts) > 1 else [np.moveaxis(target, output, -1)]
            for target in targets
        ]  # fmt: skip
        step = max(1, CHUNK // max(1, self._consumer.features * self._consumer.groups))
        for (sample, part), allowed, *beside in zip(parts, kept, *aims, strict=True):
            places = self._places(part)
            chosen = self._sampling.draw(sample, places, None if allowed is None else allowed.reshape(-1))
            flat = [aim.reshape(places, -1) for aim in beside]
            for start in range(0, len(chosen), step):
                some = chosen[start : start + step]
                yield sample, [self._rows(part, some), *(self._blocks(aim[some]) for aim in flat)]

    def _places(self, part: np.ndarray) -> int:
        window = self._consumer.window
        if window is None:
            return int(part.size // part.shape[self._axis])
        spatial = tuple(size for axis, size in enumerate(part.shape) if axis not in (0, self._axis))
        return len(part) * math.prod(window.output(spatial))

    def _rows(self, part: np.ndarray, places: np.ndarray) -> np.ndarray:
        window = self._consumer.window
        if window is None:
            flat = np.moveaxis(part, self._axis, -1).reshape(-1, part.shape[self._axis])
            return self._blocks(flat[places])
        images = np.moveaxis(part, self._axis, 1)
        spatial = images.shape[2:]
        per_image = math.prod(window.output(spatial))
        found = []
        for number in np.unique(places // per_image).tolist():
            mine = places[places // per_image == number] - number * per_image
            index = window.indices(spatial, mine)
            image = images[number].reshape(images.shape[1], -1)
            read = image[:, np.maximum(index, 0).reshape(-1)].reshape(len(image), *index.shape).astype(np.float32)
            read[:, index < 0] = 0
            found.append(read.transpose(1, 0, 2).reshape(len(mine), -1))
        return self._blocks(np.concatenate(found) if len(found) != 1 else found[0])

    def _blocks(self, rows: np.ndarray) -> np.ndarray:
        """[n, groups * columns] -> [groups, n, columns], float32."""
        groups = self._consumer.groups
        return rows.astype(np.float32, copy=False).reshape(len(rows), groups, -1).transpose(1, 0, 2)
