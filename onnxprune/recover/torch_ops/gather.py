"""Picking elements by index."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from onnxprune.recover.registry import op
from onnxprune.recover.step import Step, ints


def wrapped(index: Tensor, size: int) -> Tensor:
    """Indices that may count from the back, as int64."""
    index = index.to(torch.int64)
    return torch.where(index < 0, index + size, index)


@op("Gather")
def gather(step: Step, x: Tensor, index: Tensor) -> Tensor:
    axis = step.attr("axis", 0) % x.ndim
    index = index.to(torch.int64)
    if index.ndim == 0:
        return x.select(axis, int(index)) if index.device.type == "cpu" else x.index_select(
            axis, wrapped(index, x.shape[axis]).reshape(1)
        ).squeeze(axis)  # fmt: skip
    index = wrapped(index, x.shape[axis])
    if axis == 0 and x.ndim == 2 and x.is_floating_point():
        return F.embedding(index, x)
    picked = x.index_select(axis, index.reshape(-1))
    return picked.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


@op("GatherElements")
def gather_elements(step: Step, x: Tensor, index: Tensor) -> Tensor:
    axis = step.attr("axis", 0)
    return torch.gather(x, axis, wrapped(index, x.shape[axis]))


@op("GatherND")
def gather_nd(step: Step, x: Tensor, index: Tensor) -> Tensor:
    """The last axis of `index` holds places along x's axes after the `batch_dims` first."""
    batch, depth = step.attr("batch_dims", 0), index.shape[-1]
    places = [wrapped(index[..., k], x.shape[batch + k]) for k in range(depth)]
    lead = [torch.arange(x.shape[k], device=x.device).reshape(-1, *(1,) * (index.ndim - 2 - k)) for k in range(batch)]
    return x[tuple(lead + places)]


@op("Compress")
def compress(step: Step, x: Tensor, condition: Tensor) -> Tensor:
    axis = step.attr("axis")
    if axis is None:
        x, axis = x.reshape(-1), 0
    return x.index_select(axis, torch.nonzero(condition.to(torch.bool).reshape(-1)).reshape(-1))


@op("OneHot", settings=(1, 2))
def one_hot(step: Step, index: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    """`values` are [off, on]; an index outside of the depth gives off everywhere."""
    axis, size = step.attr("axis", -1), ints(depth)[0]
    place = index.to(torch.int64)
    inside = (place >= -size) & (place < size)
    place = torch.where(place < 0, place + size, place)
    axis = axis % (place.ndim + 1)
    steps = torch.arange(size, device=index.device).reshape(-1, *(1,) * (place.ndim - axis))
    hit = (place.unsqueeze(axis) == steps) & inside.unsqueeze(axis)
    values = values.to(index.device)
    return torch.where(hit, values[1], values[0])
