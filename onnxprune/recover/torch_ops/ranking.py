"""Operators that rank elements."""

from __future__ import annotations

import torch
from torch import Tensor

from onnxprune.recover.dtypes import is_unsigned
from onnxprune.recover.registry import op
from onnxprune.recover.step import Step, ints


@op("ArgMax", "ArgMin")
def arg(step: Step, x: Tensor) -> Tensor:
    """Of equal elements the first, or the last with `select_last_index`."""
    axis, keep = step.attr("axis", 0), bool(step.attr("keepdims", 1))
    pick = torch.argmax if step.op == "ArgMax" else torch.argmin
    if not step.attr("select_last_index", 0):
        return pick(x, axis, keepdim=keep)
    return x.shape[axis] - 1 - pick(x.flip(axis), axis, keepdim=keep)


@op("TopK", settings=(1,))
def top_k(step: Step, x: Tensor, k: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Of equal elements those of lower index first, which torch's own topk does not promise."""
    count = step.attrs["k"] if k is None else ints(k)[0]
    axis, largest = step.attr("axis", -1), bool(step.attr("largest", 1))
    values, indices = torch.sort(
        x.to(torch.int64) if is_unsigned(x.dtype) else x, dim=axis, descending=largest, stable=True
    )
    return values.narrow(axis, 0, count).to(x.dtype), indices.narrow(axis, 0, count)


@op("NonZero")
def non_zero(step: Step, x: Tensor) -> Tensor:
    return torch.nonzero(x.reshape(1) if x.ndim == 0 else x).t()


@op("Unique")
def unique(step: Step, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Values, where each stands first, which of them each element is, and how often."""
    axis = step.attr("axis")
    x = x.reshape(-1) if axis is None else x
    axis = 0 if axis is None else axis
    values, inverse, counts = torch.unique(x, dim=axis, sorted=True, return_inverse=True, return_counts=True)
    place = torch.arange(len(inverse), device=x.device)
    first = torch.full((len(counts),), len(inverse), dtype=torch.int64, device=x.device)
    first = first.scatter_reduce(0, inverse, place, "amin")
    if not step.attr("sorted", 1):
        order = torch.argsort(first)
        rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=x.device))
        values, first, inverse, counts = values.index_select(axis, order), first[order], rank[inverse], counts[order]
    return values, first, inverse, counts


@op("Hardmax")
def hardmax(step: Step, x: Tensor) -> Tensor:
    from onnxprune.recover.torch_ops.softmax import over_axis

    def pick(flat: Tensor, axis: int) -> Tensor:
        return torch.zeros_like(flat).scatter(axis, flat.argmax(axis, keepdim=True), 1)

    return over_axis(step, x, pick)
