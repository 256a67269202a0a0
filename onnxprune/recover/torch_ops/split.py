"""Splitting along an axis."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from onnxprune.recover.registry import op
from onnxprune.recover.step import Step, ints


@op("Split", settings=(1,))
def split(step: Step, x: Tensor, sizes: Tensor | None = None) -> Any:
    axis = step.attr("axis", 0)
    parts = ints(sizes) if sizes is not None else list(step.attr("split") or [])
    if not parts:
        count = len(step.outputs)
        largest = -(-x.shape[axis] // count)
        parts = [max(0, min(largest, x.shape[axis] - k * largest)) for k in range(count)]
    found = torch.split(x, parts, axis)
    return found[0] if step.single else found
