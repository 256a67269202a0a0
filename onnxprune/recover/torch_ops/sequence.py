"""Sequences (Python lists of tensors) and optional values (None where there is nothing)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from onnxprune.recover.registry import op
from onnxprune.recover.step import Step, ints


@op("SequenceEmpty")
def empty(step: Step) -> list[Tensor]:
    return []


@op("SequenceConstruct")
def construct(step: Step, *xs: Tensor) -> list[Tensor]:
    return list(xs)


@op("SequenceInsert", settings=(2,))
def insert(step: Step, sequence: list[Tensor], x: Tensor, position: Tensor | None = None) -> list[Tensor]:
    at = len(sequence) if position is None else ints(position)[0]
    at = at + len(sequence) if at < 0 else at
    return [*sequence[:at], x, *sequence[at:]]


@op("SequenceErase", settings=(1,))
def erase(step: Step, sequence: list[Tensor], position: Tensor | None = None) -> list[Tensor]:
    at = -1 if position is None else ints(position)[0]
    found = list(sequence)
    del found[at]
    return found


@op("SequenceAt", settings=(1,))
def at(step: Step, sequence: list[Tensor], position: Tensor) -> Tensor:
    return sequence[ints(position)[0]]


@op("SequenceLength")
def length(step: Step, sequence: list[Tensor]) -> Tensor:
    return torch.tensor(len(sequence))


@op("ConcatFromSequence")
def concat(step: Step, sequence: list[Tensor]) -> Tensor:
    axis = step.attrs["axis"]
    return torch.stack(sequence, axis) if step.attr("new_axis", 0) else torch.cat(sequence, axis)


@op("SplitToSequence", settings=(1,))
def split(step: Step, x: Tensor, sizes: Tensor | None = None) -> list[Tensor]:
    axis = step.attr("axis", 0)
    if sizes is None:
        parts = list(torch.split(x, 1, axis))
        return parts if step.attr("keepdims", 1) else [part.squeeze(axis) for part in parts]
    return list(torch.split(x, ints(sizes)[0] if sizes.ndim == 0 else ints(sizes), axis))


@op("Optional")
def optional(step: Step, x: Any = None) -> Any:
    return x


@op("OptionalHasElement")
def has_element(step: Step, x: Any = None) -> Tensor:
    return torch.tensor(x is not None)


@op("OptionalGetElement")
def get_element(step: Step, x: Any) -> Any:
    return x
