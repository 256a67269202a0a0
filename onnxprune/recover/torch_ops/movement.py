"""Operators that lay elements out anew."""

from __future__ import annotations

import torch
from torch import Tensor

from onnxprune.recover.registry import op
from onnxprune.recover.step import Step, ints


@op("Transpose")
def transpose(step: Step, x: Tensor) -> Tensor:
    return x.permute(step.attr("perm") or list(range(x.ndim))[::-1])


@op("Concat")
def concat(step: Step, *xs: Tensor) -> Tensor:
    return torch.cat(xs, step.attr("axis", 1))


@op("Expand", settings=(1,))
def expand(step: Step, x: Tensor, shape: Tensor) -> Tensor:
    """Broadcasting in both directions: the result may be larger than `shape` says."""
    return x.expand(torch.broadcast_shapes(x.shape, ints(shape)))


@op("Tile", settings=(1, 2))
def tile(step: Step, x: Tensor, repeats: Tensor, axis: Tensor | None = None) -> Tensor:
    counts = ints(repeats)
    if axis is not None:  # before opset 6: so many times along one axis
        where = ints(axis)[0]
        counts = [counts[0] if k == where else 1 for k in range(x.ndim)]
    return x.repeat(counts) if counts else x


@op("Trilu", settings=(1,))
def trilu(step: Step, x: Tensor, k: Tensor | None = None) -> Tensor:
    diagonal = ints(k)[0] if k is not None else 0
    return torch.triu(x, diagonal) if step.attr("upper", 1) else torch.tril(x, diagonal)


@op("ReverseSequence", settings=(1,))
def reverse_sequence(step: Step, x: Tensor, lengths: Tensor) -> Tensor:
    """The first `lengths[n]` places of sample n in reverse."""
    time, batch = step.attr("time_axis", 0), step.attr("batch_axis", 1)
    place = torch.arange(x.shape[time], device=x.device).unsqueeze(1)
    size = lengths.to(x.device).unsqueeze(0)
    source = torch.where(place < size, size - 1 - place, place)
    moved = x.movedim((time, batch), (0, 1))
    picked = torch.gather(moved, 0, source.reshape(*source.shape, *(1,) * (x.ndim - 2)).expand_as(moved))
    return picked.movedim((0, 1), (time, batch))
