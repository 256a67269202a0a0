"""Operators that change the shape and no element, and those that tell it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from onnxprune.recover.registry import op
from onnxprune.recover.step import Step, ints


@op("Reshape", settings=(1,))
def reshape(step: Step, x: Tensor, shape: Tensor | None = None) -> Tensor:
    """A size of 0 is x's own at that place, unless `allowzero`."""
    sizes = list(step.attr("shape") or []) if shape is None else ints(shape)
    if not step.attr("allowzero", 0):
        sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return x.reshape(sizes)


@op("Flatten")
def flatten(step: Step, x: Tensor) -> Tensor:
    axis = step.attr("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), -1) if x.numel() else x.reshape(
        math.prod(x.shape[:axis]), math.prod(x.shape[axis:])
    )  # fmt: skip


@op("Squeeze", settings=(1,))
def squeeze(step: Step, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = ints(axes) if axes is not None else step.attr("axes")
    return x.squeeze() if chosen is None else x.squeeze(tuple(chosen))


@op("Unsqueeze", settings=(1,))
def unsqueeze(step: Step, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = ints(axes) if axes is not None else list(step.attrs["axes"])
    rank = x.ndim + len(chosen)
    places = {axis % rank for axis in chosen}
    sizes = iter(x.shape)
    return x.reshape([1 if axis in places else next(sizes) for axis in range(rank)])


@op("Shape")
def shape(step: Step, x: Tensor) -> Tensor:
    sizes = list(x.shape)[slice(step.attr("start", 0), step.attr("end"))]
    return torch.tensor(sizes, dtype=torch.int64)


@op("Size")
def size(step: Step, x: Tensor) -> Tensor:
    return torch.tensor(math.prod(x.shape), dtype=torch.int64)
