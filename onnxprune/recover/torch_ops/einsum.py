"""Einstein sums."""

from __future__ import annotations

import torch
from torch import Tensor

from onnxprune.recover.registry import op
from onnxprune.recover.step import Step


@op("Einsum")
def einsum(step: Step, *xs: Tensor) -> Tensor:
    return torch.einsum(step.attrs["equation"].replace(" ", ""), *xs)
