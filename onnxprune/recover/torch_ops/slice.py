"""Slices."""

from __future__ import annotations

import torch
from torch import Tensor

from onnxprune.recover.registry import op
from onnxprune.recover.step import Step, ints


@op("Slice", settings=(1, 2, 3, 4))
def slices(
    step: Step,
    x: Tensor,
    starts: Tensor | None = None,
    ends: Tensor | None = None,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    """Bounds count from the back where negative and are clamped; a negative step goes backwards."""
    first = ints(starts) if starts is not None else list(step.attrs["starts"])
    last = ints(ends) if ends is not None else list(step.attrs["ends"])
    chosen = ints(axes) if axes is not None else list(step.attr("axes") or range(len(first)))
    by = ints(steps) if steps is not None else [1] * len(first)
    for axis, start, end, stride in zip(chosen, first, last, by, strict=True):
        size = x.shape[axis]
        if stride == 1 and start >= 0 and end >= size:
            if start:
                x = x.narrow(axis, min(start, size), size - min(start, size))
            continue
        begin, stop, stride = slice(start, _end(end, stride, size), stride).indices(size)
        if stride > 0:
            index = [slice(None)] * x.ndim
            index[axis] = slice(begin, max(stop, begin), stride)
            x = x[tuple(index)]
        else:
            x = x.index_select(axis, torch.arange(begin, min(stop, begin), stride, device=x.device))
    return x


def _end(end: int, stride: int, size: int) -> int | None:
    """Python's slice takes an end of -1 for the last element; one before the first is no end at all."""
    return None if stride < 0 and end < -size else end
