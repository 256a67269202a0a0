"""Which elements of an image a convolution reads for one place of its output (ONNX: Conv, ConvTranspose)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

_TABLE = 1 << 20  # elements of an index table that is worth keeping


@dataclass(frozen=True)
class Window:
    """A convolution's geometry, over any number of spatial axes; `pads` has all beginnings, then all ends."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    auto_pad: str = "NOTSET"
    transposed: bool = False
    output_padding: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()

    @classmethod
    def of(cls, attrs: Mapping[str, Any], kernel: tuple[int, ...], *, transposed: bool = False) -> Window:
        """From a node's attributes and the spatial shape of its weight."""
        rank = len(kernel)
        return cls(
            kernel,
            tuple(attrs.get("strides") or [1] * rank),
            tuple(attrs.get("dilations") or [1] * rank),
            tuple(attrs.get("pads") or [0] * 2 * rank),
            attrs.get("auto_pad") or "NOTSET",
            transposed,
            tuple(attrs.get("output_padding") or [0] * rank),
            tuple(attrs.get("output_shape") or ())[-rank:],
        )

    @property
    def taps(self) -> int:
        """How many places of the input one place of the output reads of each channel."""
        return math.prod(self.kernel)

    @property
    def is_point(self) -> bool:
        """Whether each output place reads the input at the same place: a 1x1 convolution."""
        return self.taps == 1 and set(self.strides) == {1} and not any(self.pads) and not self.transposed

    def output(self, spatial: tuple[int, ...]) -> tuple[int, ...]:
        """The spatial shape of the output for an input of shape `spatial`."""
        return tuple(self._along(axis, size)[0] for axis, size in enumerate(spatial))

    def indices(self, spatial: tuple[int, ...], places: np.ndarray) -> np.ndarray:
        """For each of the flat output `places` [P] the flat input index of every tap, int64 [P, taps], -1 for padding.

        Taps are in the order of the weight's spatial axes.
        """
        if math.prod(self.output(spatial)) * self.taps <= _TABLE:
            return np.asarray(_table(self, spatial)[places])
        return self._indices(spatial, places)

    def padded(self, spatial: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of a convolution that is not transposed: the padding before the input along each axis, and how long an axis
        has to be for all taps to lie within it.
        """
        found = [self._along(axis, size) for axis, size in enumerate(spatial)]
        reach = [(size - 1) * dilation + 1 for size, dilation in zip(self.kernel, self.dilations, strict=True)]
        lengths = [
            max(begin + size, (length - 1) * stride + far)
            for (length, begin), size, stride, far in zip(found, spatial, self.strides, reach, strict=True)
        ]
        return tuple(begin for _, begin in found), tuple(lengths)

    def slices(self, spatial: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
        """Tap by tap, in the order of the weight's spatial axes: what all places read of the padded input."""
        lengths = self.output(spatial)
        for tap in product(*(range(size) for size in self.kernel)):
            yield tuple(
                slice(at * dilation, at * dilation + (length - 1) * stride + 1, stride)
                for at, dilation, length, stride in zip(tap, self.dilations, lengths, self.strides, strict=True)
            )

    def _indices(self, spatial: tuple[int, ...], places: np.ndarray) -> np.ndarray:
        coordinates = np.unravel_index(places, self.output(spatial))
        flat = np.zeros((len(places), 1), np.int64)
        outside = np.zeros((len(places), 1), bool)
        for axis, size in enumerate(spatial):
            begin = self._along(axis, size)[1]
            tap = np.arange(self.kernel[axis]) * self.dilations[axis]
            at = coordinates[axis][:, None]
            if self.transposed:
                numerator = at + begin - tap
                index = numerator // self.strides[axis]
                missed = numerator % self.strides[axis] != 0
            else:
                index = at * self.strides[axis] - begin + tap
                missed = np.zeros(index.shape, bool)
            missed |= (index < 0) | (index >= size)
            flat = (flat[:, :, None] * size + index[:, None, :]).reshape(len(places), -1)
            outside = (outside[:, :, None] | missed[:, None, :]).reshape(len(places), -1)
        return np.where(outside, -1, flat)

    def _along(self, axis: int, size: int) -> tuple[int, int]:
        """Along one axis, the output's size and the padding at the beginning."""
        stride, rank = self.strides[axis], len(self.kernel)
        reach = (self.kernel[axis] - 1) * self.dilations[axis] + 1
        begin, end = self.pads[axis], self.pads[axis + rank]
        if self.transposed:
            whole = stride * (size - 1) + self.output_padding[axis] + reach
            if self.output_shape or self.auto_pad.startswith("SAME"):
                length = self.output_shape[axis] if self.output_shape else size * stride
                total = max(whole - length, 0)
                return length, total // 2 if self.auto_pad == "SAME_UPPER" else total - total // 2
            return (whole, 0) if self.auto_pad == "VALID" else (whole - begin - end, begin)
        if self.auto_pad.startswith("SAME"):
            length = -(-size // stride)
            total = max((length - 1) * stride + reach - size, 0)
            return length, total // 2 if self.auto_pad == "SAME_UPPER" else total - total // 2
        if self.auto_pad == "VALID":
            begin = end = 0
        return (size + begin + end - reach) // stride + 1, begin


@lru_cache(maxsize=8)
def _table(window: Window, spatial: tuple[int, ...]) -> np.ndarray:
    """`indices` of all places: the same for every sample."""
    return window._indices(spatial, np.arange(math.prod(window.output(spatial))))
