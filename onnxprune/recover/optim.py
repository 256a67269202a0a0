"""Optimisers, which weights they decay, and the course of the learning rate."""

from __future__ import annotations

import math

import torch
from torch import nn

from onnxprune.recover.module import OnnxModule
from onnxprune.recover.muon import Muon
from onnxprune.recover.settings import Settings


def default_rate(module: OnnxModule, optimiser: str, renormalised: bool) -> float:
    """The rate unless one is given: kernels without their normalisation and matrices of transformers bear less."""
    return 3e-4


def optimiser_of(module: nn.Module, settings: Settings, rate: float) -> torch.optim.Optimizer:
    """The optimiser over all weights with a gradient. Matrices and kernels decay; norms, biases and vectors do not."""
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if settings.optimiser == "sgd":
        nesterov = settings.momentum > 0
        return torch.optim.SGD(groups, rate, settings.momentum, nesterov=nesterov)
    if settings.optimiser == "muon":
        return Muon(groups, rate, settings.momentum)
    kind = torch.optim.AdamW if settings.optimiser == "adamw" else torch.optim.Adam
    return kind(groups, rate, betas=(settings.momentum, 0.999))


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
