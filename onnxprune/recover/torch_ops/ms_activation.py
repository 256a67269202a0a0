"""Activations of ONNX Runtime (com.microsoft)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from onnxprune.recover.registry import MICROSOFT, op
from onnxprune.recover.step import Step, floats


@op("Gelu", domain=MICROSOFT)
def gelu(step: Step, x: Tensor) -> Tensor:
    return F.gelu(x)


@op("BiasGelu", domain=MICROSOFT)
def bias_gelu(step: Step, x: Tensor, bias: Tensor) -> Tensor:
    return F.gelu(x + bias)


@op("FastGelu", domain=MICROSOFT)
def fast_gelu(step: Step, x: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.gelu(x if bias is None else x + bias, approximate="tanh")


@op("QuickGelu", domain=MICROSOFT)
def quick_gelu(step: Step, x: Tensor) -> Tensor:
    return x * torch.sigmoid(step.attr("alpha", 1.702) * x)


@op("BiasSplitGelu", domain=MICROSOFT)
def bias_split_gelu(step: Step, x: Tensor, bias: Tensor) -> Tensor:
    left, right = (x + bias).chunk(2, -1)
    return left * F.gelu(right)


@op("BiasAdd", domain=MICROSOFT)
def bias_add(step: Step, x: Tensor, bias: Tensor, skip: Tensor) -> Tensor:
    return x + bias + skip


@op("BiasSoftmax", domain=MICROSOFT)
def bias_softmax(step: Step, x: Tensor, bias: Tensor) -> Tensor:
    axis = step.attr("axis", 1) % x.ndim
    return torch.softmax((x + bias).flatten(axis), -1).reshape(x.shape)


@op("BiasDropout", domain=MICROSOFT, settings=(3, 4))
def bias_dropout(
    step: Step, x: Tensor, bias: Tensor, residual: Tensor | None = None, ratio: Tensor | None = None,
    training: Tensor | None = None,
) -> Any:  # fmt: skip
    share = floats(ratio)[0] if ratio is not None else 0.5
    total = x + bias
    keep = torch.ones_like(total, dtype=torch.bool)
    if step.training:
        keep = torch.rand_like(total) >= share
        total = total * keep / (1 - share)
    y = total if residual is None else total + residual
    return y if step.single else (y, keep)


@op("GatedAdd", domain=MICROSOFT)
def gated_add(step: Step, x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
    return x + gate * y
