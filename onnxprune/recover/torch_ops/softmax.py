"""Softmax and its like."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from onnxprune.recover.registry import op
from onnxprune.recover.step import Step

_PER_AXIS_SINCE = 13


def over_axis(step: Step, x: Tensor, function: Callable[[Tensor, int], Tensor]) -> Tensor:
    """`function` over one axis; before opset 13 over all axes from `axis` on, as one."""
    if step.opset >= _PER_AXIS_SINCE:
        return function(x, step.attr("axis", -1))
    axis = step.attr("axis", 1) % max(x.ndim, 1)
    return function(x.reshape(math.prod(x.shape[:axis]), -1), 1).reshape(x.shape)


@op("Softmax")
def softmax(step: Step, x: Tensor) -> Tensor:
    return over_axis(step, x, torch.softmax)


@op("LogSoftmax")
def log_softmax(step: Step, x: Tensor) -> Tensor:
    return over_axis(step, x, torch.log_softmax)
