"""A layer as a matrix product over all places of whole maps, and its adjoints (repair/program.py).

Maps are float32 [channels, *spatial, samples], so that what a tap reads lies side by side; a product without a window
has one spatial axis, of its places. A layer's weights are the matrix [groups, D, K] of its Consumer, D counting
channels of a block, then taps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from onnxprune.runtime.consumers import Consumer

_ALL = slice(None)


class Lowering:
    """What `consumer` does to maps whose spatial shape is `spatial`."""

    def __init__(self, consumer: Consumer, spatial: tuple[int, ...]) -> None:
        self._groups, self._window, self._spatial = consumer.groups, consumer.window, spatial
        self._channels = consumer.source.size
        self.features = consumer.features
        self.read = consumer.features * consumer.groups  # elements that a place reads
        self.output = spatial if self._window is None else self._window.output(spatial)
        begins, self._padded = ((0,) * len(spatial), spatial) if self._window is None else self._window.padded(spatial)
        inside = (slice(begin, begin + size) for begin, size in zip(begins, spatial, strict=True))
        self._inside = _ALL, *inside, _ALL

    @property
    def inputs(self) -> int:
        """Elements of one sample's input."""
        return self._channels * math.prod(self._spatial)

    @property
    def places(self) -> int:
        """Places of one sample's output."""
        return math.prod(self.output)

    @property
    def work(self) -> int:
        """Multiply-accumulates for each channel of one sample's output."""
        return self.features * self.places

    @property
    def is_plain(self) -> bool:
        """Whether what is read at a place is what stands there."""
        return self._window is None or self._window.is_point

    def lower(self, maps: np.ndarray) -> np.ndarray:
        """What the places of the output read: [groups, D, places * samples]."""
        if self.is_plain:
            return maps.reshape(self._groups, self.features, -1)
        padded = np.zeros((len(maps), *self._padded, maps.shape[-1]), np.float32)
        padded[self._inside] = maps
        taps = self.read // len(maps)
        read = np.empty((len(maps), taps, *self.output, maps.shape[-1]), np.float32)
        for tap, at in self._taps():
            read[:, tap] = padded[at]
        return read.reshape(self._groups, self.features, -1)

    def apply(self, lowered: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """The output's maps, without a bias."""
        samples = lowered.shape[2] // self.places
        return np.asarray(np.matmul(weight.transpose(0, 2, 1), lowered).reshape(-1, *self.output, samples))

    def weigh(self, lowered: np.ndarray, maps: np.ndarray) -> np.ndarray:
        """The adjoint of `apply` in its weights: [groups, D, K] from maps of the output."""
        return np.asarray(np.matmul(lowered, maps.reshape(self._groups, -1, lowered.shape[2]).transpose(0, 2, 1)))

    def spread(self, maps: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """The adjoint of `lower` and `apply` in what is read: maps of the input from those of the output."""
        samples = maps.shape[-1]
        given = maps.reshape(self._groups, weight.shape[2], -1)
        if self._window is None or self.is_plain:
            return np.asarray(np.matmul(weight, given).reshape(-1, *self._spatial, samples))
        by_tap = weight.reshape(self._groups, -1, self._window.taps, weight.shape[2])
        padded = np.zeros((self._groups * by_tap.shape[1], *self._padded, samples), np.float32)
        times = np.multiply if weight.shape[2] == 1 else np.matmul  # the same then, and much faster
        for tap, at in self._taps():
            padded[at] += times(by_tap[:, :, tap], given).reshape(-1, *self.output, samples)
        return padded[self._inside]

    def _taps(self) -> Iterator[tuple[int, tuple[slice, ...]]]:
        if self._window is not None:
            for tap, at in enumerate(self._window.slices(self._spatial)):
                yield tap, (_ALL, *at, _ALL)
