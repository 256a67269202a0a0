"""Caches of keys and values that are written in place (ONNX TensorScatter)."""

from __future__ import annotations

import torch
from torch import Tensor

from onnxprune.recover.registry import op
from onnxprune.recover.step import Step


@op("TensorScatter")
def tensor_scatter(step: Step, cache: Tensor, update: Tensor, starts: Tensor | None = None) -> Tensor:
    """`update` at places `starts[n]` on of sample n, along `axis`; round the end with mode circular."""
    axis = step.attr("axis", -2) % cache.ndim
    first = cache.new_zeros(cache.shape[0], dtype=torch.int64) if starts is None else starts.to(torch.int64)
    place = first.unsqueeze(1) + torch.arange(update.shape[axis], device=cache.device)
    if step.attr("mode", "linear") == "circular":
        place = place % cache.shape[axis]
    moved = update.movedim(axis, 1)
    index = place.reshape(*place.shape, *(1,) * (cache.ndim - 2)).expand_as(moved)
    return cache.movedim(axis, 1).scatter(1, index, moved).movedim(1, axis)
