"""Losses that are part of a graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from onnxprune.recover.registry import op
from onnxprune.recover.step import Step


def _nll(step: Step, log_p: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    ignored = step.attr("ignore_index", -100)
    size = log_p.shape[1]
    reduction = step.attr("reduction", "mean")
    flat = log_p.movedim(1, -1).reshape(-1, size)
    labels = target.reshape(-1).to(torch.int64)
    y = F.nll_loss(flat, labels, weight, ignore_index=ignored, reduction=reduction)
    return y.reshape(target.shape) if reduction == "none" else y


@op("NegativeLogLikelihoodLoss")
def nll_loss(step: Step, x: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    return _nll(step, x, target, weight)


@op("SoftmaxCrossEntropyLoss")
def cross_entropy(step: Step, x: Tensor, target: Tensor, weight: Tensor | None = None) -> Any:
    log_p = torch.log_softmax(x, 1)
    loss = _nll(step, log_p, target, weight)
    return loss if step.single else (loss, log_p)
