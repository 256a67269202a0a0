"""Made-up samples where the user gave no data: noise shows what the weights do to noise, and says nothing of use."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from onnxprune.graph.bindings import Bindings
from onnxprune.graph.view import GraphView
from onnxprune.runtime.data import Batch, Data
from onnxprune.runtime.feeds import random_feeds

SAMPLES = 32


class SyntheticData(Data):
    """`samples` feeds at the bound input shapes (runtime/feeds.py), each of another seed from `seed` on.

    A feed is as large as the bound batch, and counts as one sample.
    """

    origin = "made-up inputs"
    synthetic = True

    def __init__(self, view: GraphView, bindings: Bindings, *, samples: int = SAMPLES, seed: int = 0) -> None:
        self._inputs, self._bindings, self._samples, self._seed = view.inputs, bindings, samples, seed

    @property
    def samples(self) -> int:
        """How many feeds there are."""
        return self._samples

    def batches(self, size: int, *, pad: bool = False) -> Iterator[Batch]:
        """The feeds, one at a time whatever `size` is. Raises SettingError where an input's shape is not known."""
        for number in range(self._samples):
            seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
            yield Batch(random_feeds(self._inputs, self._bindings.shapes, seed), number, 1)

    def part(self, start: int, stop: int | None = None) -> SyntheticData:
        """As many other feeds: made-up samples have no places."""
        first, last, _ = slice(start, stop).indices(self._samples)
        part = SyntheticData.__new__(SyntheticData)
        part.__dict__.update(self.__dict__, _samples=max(last - first, 0), _seed=self._seed + 1 + first)
        return part

    @property
    def sha256(self) -> str:
        """A hash (hex) of what the feeds are made from."""
        shapes = sorted(self._bindings.shapes.items())
        return hashlib.sha256(repr(("synthetic", shapes, self._samples, self._seed)).encode()).hexdigest()
