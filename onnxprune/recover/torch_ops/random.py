"""Random numbers: other ones than a runtime draws, of the same distribution. Dropout obeys train and eval."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from onnxprune.recover.registry import op
from onnxprune.recover.step import Step, floats

_RATIO_AS_INPUT_SINCE = 12


@op("Dropout", settings=(1, 2))
def dropout(step: Step, x: Tensor, ratio: Tensor | None = None, training: Tensor | None = None) -> Any:
    """Drops in the module's training mode, and in no other, whatever `training_mode` says."""
    share = floats(ratio)[0] if ratio is not None else step.attr("ratio", 0.5)
    if not step.training or share == 0:
        keep = torch.ones_like(x, dtype=torch.bool)
        return x if step.single else (x, keep)
    if step.single:
        return F.dropout(x, share, True)
    keep = torch.rand_like(x, dtype=torch.float32) >= share
    return x * keep / (1 - share), keep


def _shape(step: Step, like: Tensor | None) -> tuple[list[int], torch.dtype, Any]:
    if like is None:
        return list(step.attrs["shape"]), step.dtype(step.attr("dtype", 1)), None
    dtype = step.dtype(step.attrs["dtype"]) if "dtype" in step.attrs else like.dtype
    return list(like.shape), dtype, like.device


@op("RandomNormal", "RandomNormalLike")
def normal(step: Step, like: Tensor | None = None) -> Tensor:
    sizes, dtype, device = _shape(step, like)
    return torch.randn(sizes, dtype=dtype, device=device) * step.attr("scale", 1.0) + step.attr("mean", 0.0)


@op("RandomUniform", "RandomUniformLike")
def uniform(step: Step, like: Tensor | None = None) -> Tensor:
    sizes, dtype, device = _shape(step, like)
    low, high = step.attr("low", 0.0), step.attr("high", 1.0)
    return torch.rand(sizes, dtype=dtype, device=device) * (high - low) + low


@op("Bernoulli")
def bernoulli(step: Step, x: Tensor) -> Tensor:
    drawn = torch.bernoulli(x)
    return drawn.to(step.dtype(step.attrs["dtype"])) if "dtype" in step.attrs else drawn


@op("Multinomial")
def multinomial(step: Step, x: Tensor) -> Tensor:
    """Samples of classes whose unnormalised log probabilities are given."""
    drawn = torch.multinomial(torch.softmax(x, -1), step.attr("sample_size", 1), replacement=True)
    return drawn.to(step.dtype(step.attr("dtype", 6)))
