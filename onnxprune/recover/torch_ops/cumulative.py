"""Running sums and products."""

from __future__ import annotations

import torch
from torch import Tensor

from onnxprune.recover.registry import op
from onnxprune.recover.step import Step, ints


@op("CumSum", "CumProd", settings=(1,))
def cumulative(step: Step, x: Tensor, axis: Tensor) -> Tensor:
    """From the back with `reverse`; without the element itself with `exclusive`."""
    (dim,) = ints(axis)
    if step.attr("reverse", 0):
        x = x.flip(dim)
    y = torch.cumsum(x, dim, dtype=x.dtype) if step.op == "CumSum" else torch.cumprod(x, dim, dtype=x.dtype)
    if step.attr("exclusive", 0):
        first = torch.full_like(x.narrow(dim, 0, 1), 0 if step.op == "CumSum" else 1)
        y = torch.cat([first, y.narrow(dim, 0, x.shape[dim] - 1)], dim)
    return y.flip(dim) if step.attr("reverse", 0) else y
