"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from onnxprune.recover.registry import op
from onnxprune.recover.step import Step, ints


def _prod(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((a % x.ndim for a in axes), reverse=True):
        x = torch.prod(x, axis, keepdim=keep)
    return x


_FORMS: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "ReduceSum": lambda x, axes, keep: torch.sum(x, axes, keepdim=keep, dtype=x.dtype),
    "ReduceMean": lambda x, axes, keep: (
        torch.mean(x, axes, keepdim=keep) if x.is_floating_point()
        else torch.mean(x.double(), axes, keepdim=keep).to(x.dtype)
    ),
    "ReduceL1": lambda x, axes, keep: torch.sum(x.abs(), axes, keepdim=keep, dtype=x.dtype),
    "ReduceL2": lambda x, axes, keep: torch.sqrt(torch.sum(x * x, axes, keepdim=keep)).to(x.dtype),
    "ReduceSumSquare": lambda x, axes, keep: torch.sum(x * x, axes, keepdim=keep, dtype=x.dtype),
    "ReduceLogSum": lambda x, axes, keep: torch.log(torch.sum(x, axes, keepdim=keep)),
    "ReduceLogSumExp": lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep),
    "ReduceMax": lambda x, axes, keep: torch.amax(x, axes, keepdim=keep),
    "ReduceMin": lambda x, axes, keep: torch.amin(x, axes, keepdim=keep),
    "ReduceProd": _prod,
}  # fmt: skip


@op(*_FORMS, settings=(1,))
def reduce(step: Step, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Over all axes where none are given, unless `noop_with_empty_axes`."""
    chosen = ints(axes) if axes is not None else list(step.attr("axes") or [])
    if not chosen:
        if step.attr("noop_with_empty_axes", 0):
            return _elementwise(step.op, x)
        chosen = list(range(x.ndim))
    if not chosen:
        return _elementwise(step.op, x)
    keep = bool(step.attr("keepdims", 1))
    if step.op in ("ReduceMax", "ReduceMin") and any(x.shape[axis] == 0 for axis in chosen):
        return _of_nothing(step.op, x, chosen, keep)
    return _FORMS[step.op](x, chosen, keep)


def _elementwise(op_name: str, x: Tensor) -> Tensor:
    """What a reduction over no axis does."""
    if op_name in ("ReduceL1", "ReduceL2"):
        return x.abs()
    if op_name == "ReduceSumSquare":
        return x * x
    return torch.log(x) if op_name == "ReduceLogSum" else x


def _of_nothing(op_name: str, x: Tensor, axes: list[int], keep: bool) -> Tensor:
    """The neutral element, over axes of length 0."""
    places = {axis % x.ndim for axis in axes}
    sizes = [1 if a in places else s for a, s in enumerate(x.shape) if keep or a not in places]
    least = op_name == "ReduceMax"
    if x.dtype == torch.bool:
        return x.new_full(sizes, not least)
    if x.is_floating_point():
        return x.new_full(sizes, float("-inf") if least else float("inf"))
    limits = torch.iinfo(x.dtype)
    return x.new_full(sizes, limits.min if least else limits.max)
