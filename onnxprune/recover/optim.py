"""Optimisers, which weights they decay, and the course of the learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from onnxprune.recover.module import OnnxModule
from onnxprune.recover.muon import Muon
from onnxprune.recover.renorm import is_convolutional
from onnxprune.recover.settings import Settings


@dataclass(frozen=True)
class Way:
    """By which optimiser, and at which highest rate."""

    optimiser: str
    lr: float


_RATES = {"muon": 3e-3, "sgd": 0.015, "adamw": 3e-4, "adam": 3e-4}
_RENORMALISED = {"muon": 6e-3, "sgd": 5e-3, "adamw": 1e-3, "adam": 1e-3}
_TRANSFORMER = 5e-5  # of Adam


def way_of(module: OnnxModule, settings: Settings, *, renormalised: bool) -> Way:
    """What is set, and what suits the model where nothing is: orthogonalised momentum for networks with convolutions,
    AdamW for others, and where single units are to shrink. Kernels bear higher rates with their normalisation,
    transformers lower ones.
    """
    optimiser = settings.optimiser or ("muon" if is_convolutional(module) and not settings.lasso else "adamw")
    if settings.lr is not None:
        return Way(optimiser, settings.lr)
    if renormalised:
        return Way(optimiser, _RENORMALISED[optimiser])
    is_transformer = any("LayerNormalization" in step.op for step in module.program.main)
    return Way(optimiser, _TRANSFORMER if is_transformer and optimiser.startswith("adam") else _RATES[optimiser])


def optimiser_of(module: nn.Module, settings: Settings, way: Way) -> torch.optim.Optimizer:
    """The optimiser over all weights with a gradient. Matrices and kernels decay; norms, biases and vectors do not."""
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if way.optimiser == "sgd":
        nesterov = settings.momentum > 0
        return torch.optim.SGD(groups, way.lr, settings.momentum, nesterov=nesterov)
    if way.optimiser == "muon":
        return Muon(groups, way.lr, settings.momentum)
    kind = torch.optim.AdamW if way.optimiser == "adamw" else torch.optim.Adam
    return kind(groups, way.lr, betas=(settings.momentum, 0.999))


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
