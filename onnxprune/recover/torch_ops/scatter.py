"""Putting elements at indices."""

from __future__ import annotations

import torch
from torch import Tensor

from onnxprune.recover.registry import op
from onnxprune.recover.step import Step
from onnxprune.recover.torch_ops.gather import wrapped

_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@op("Scatter", "ScatterElements")
def scatter_elements(step: Step, x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
    axis, how = step.attr("axis", 0), step.attr("reduction", "none")
    index = wrapped(index, x.shape[axis])
    if how == "none":
        return x.scatter(axis, index, updates.to(x.dtype))
    return x.scatter_reduce(axis, index, updates.to(x.dtype), _REDUCE[how])


@op("ScatterND")
def scatter_nd(step: Step, x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
    """The last axis of `index` holds places along x's first axes."""
    how = step.attr("reduction", "none")
    depth = index.shape[-1]
    places = tuple(wrapped(index[..., k], x.shape[k]) for k in range(depth))
    if how in ("none", "add"):
        return x.index_put(places, updates.to(x.dtype), accumulate=how == "add")
    flat = x.reshape(-1, *x.shape[depth:])
    row = torch.zeros_like(places[0])
    for k, place in enumerate(places):
        row = row * x.shape[k] + place
    source = updates.reshape(-1, *x.shape[depth:]).to(x.dtype)
    where = row.reshape(-1, *(1,) * (flat.ndim - 1)).expand_as(source)
    return flat.scatter_reduce(0, where, source, _REDUCE[how]).reshape(x.shape)
