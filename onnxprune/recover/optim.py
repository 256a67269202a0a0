"""Optimisers, which weights they decay, and the course of the learning rate."""

from __future__ import annotations

import math

import torch
from torch import nn

from onnxprune.recover.settings import Settings


def optimiser_of(module: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """The optimiser over all weights with a gradient. Matrices and kernels decay; norms, biases and vectors do not."""
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if settings.optimiser == "sgd":
        nesterov = settings.momentum > 0
        return torch.optim.SGD(groups, settings.lr, settings.momentum, nesterov=nesterov)
    kind = torch.optim.AdamW if settings.optimiser == "adamw" else torch.optim.Adam
    return kind(groups, settings.lr, betas=(settings.momentum, 0.999))


def rate_at(step: int, steps: int, warmup: float) -> float:
    """The learning rate at a step as a share of the highest: a straight rise, then half a cosine to zero.

    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, arXiv:1608.03983, without
    restarts.
    """
    rise = round(warmup * steps)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1)))


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate
