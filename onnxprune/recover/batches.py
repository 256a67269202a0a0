"""Batches in the order of a seed, each process its part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxprune.errors import SettingError
from onnxprune.runtime.data import Data

Lesson = tuple[dict[str, Any], np.ndarray | None, np.ndarray | None]
"""Feeds, labels, and the numbers of the samples: None where there are none."""


@dataclass(frozen=True)
class Batches:
    """Data cut into batches of `size` samples for process `rank` of `world`."""

    data: Data
    size: int
    accumulate: int = 1
    world: int = 1
    rank: int = 0

    def of(self, seed: int, *, shared: bool = False) -> Iterator[Lesson]:
        """One pass over this process's part of the data, in the order of a seed.

        Where the data is `shared` each process has all of it, so that what no gradient is exchanged for is the same.
        """
        data = self.data
        world, rank = (1, 0) if shared else (self.world, self.rank)
        if data.samples is None:
            if world > 1:
                raise SettingError(f"{data.origin}: a script's samples cannot be shared among processes")
            for batch in data.batches(self.size):
                yield batch.feeds, batch.labels, None
            return
        order = np.random.default_rng(seed).permutation(data.samples)
        mine = order[rank : len(order) // world * world : world]
        for batch in data.take(mine).batches(self.size):
            yield batch.feeds, batch.labels, mine[batch.first : batch.first + batch.size]

    def without_end(self, seed: int) -> Iterator[tuple[dict[str, Any], Any]]:
        """Feeds and numbers of all samples, pass after pass."""
        while True:
            for feeds, _, numbers in self.of(seed, shared=True):
                yield feeds, numbers
            seed += 1

    @property
    def steps(self) -> int:
        """Optimiser steps of one pass. Raises SettingError where that is not known."""
        samples = self.data.samples
        if samples is None:
            raise SettingError("how many steps a script's data makes is not known", remedy="give --steps")
        batches = -(-(samples // self.world) // self.size)
        return max(-(-batches // self.accumulate), 1)
