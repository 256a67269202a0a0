"""Weights that make a wrong prune visible.

A freshly built model hides mistakes: layer scales of 1e-6, heads and biases of zero, BatchNorm that does
nothing, embeddings a hundred times smaller than what blocks add to them. A wrong edit then leaves the output
as it was and a test calls it equal. Here every parameter gets a value that matters, and activations stay at
ordinary sizes through any depth: BatchNorm statistics are first measured and then disturbed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_LAYER_SCALES = ("gamma", "layer_scale", "layerscale", "lambda", "skipinit", "ls1", "ls2", ".scale")
_TABLES = ("token", "pos", "bias_table", "dist", "query", "queries")


def randomise(model: nn.Module, inputs: Sequence[Tensor], seed: int) -> None:
    """Gives every parameter of `model` a value that shows, in place; ends in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.is_floating_point() and parameter.numel():
                _refresh(name.lower(), parameter, id(parameter) in embeddings, generator)
        model.eval()
        _measure_batch_norm(model, inputs)
        _disturb_batch_norm(model, generator)


def _refresh(name: str, value: Tensor, is_embedding: bool, generator: torch.Generator) -> None:
    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(value.shape, generator=generator)

    def normal(std: float) -> Tensor:
        return std * torch.randn(value.shape, generator=generator)

    first = float(value.reshape(-1)[0])
    constant = bool((value == first).all())
    small = abs(first) <= 0.25
    if constant and small and any(part in name for part in _LAYER_SCALES):
        value.copy_(uniform(0.3, 1.0))
    elif value.dim() == 1:
        value.copy_(normal(0.1) if "bias" in name or (constant and first == 0.0) else uniform(0.5, 1.5))
    elif is_embedding:
        value.mul_(max(1.0, 0.5 / max(_rms(value), 1e-12)))
    elif constant and first == 0.0:
        value.copy_(normal(0.3 if any(part in name for part in _TABLES) else 1 / math.sqrt(_fan_in(value))))
    elif constant:
        # a layer scale under another name, or a gain or temperature of an ordinary size
        value.copy_(uniform(0.3, 1.0) if small else first * uniform(0.7, 1.3))
    elif "weight" not in name and any(part in name for part in _TABLES):
        value.mul_(max(1.0, 0.3 / max(_rms(value), 1e-12)))
    else:
        # transformers start at 0.02: attention is then uniform, and query and key could be anything
        wanted = 1 / math.sqrt(_fan_in(value))
        if _rms(value) < 0.9 * wanted:
            value.mul_(wanted / max(_rms(value), 1e-12))


def _rms(value: Tensor) -> float:
    return float(value.square().mean().sqrt())


def _fan_in(value: Tensor) -> int:
    return max(1, math.prod(value.shape[1:]))


def _measure_batch_norm(model: nn.Module, inputs: Sequence[Tensor]) -> None:
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    model(*inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum


def _disturb_batch_norm(model: nn.Module, generator: torch.Generator) -> None:
    for norm in model.modules():
        if isinstance(norm, _BatchNorm) and norm.running_mean is not None and norm.running_var is not None:
            # a 1x1 map over a small batch can have next to no variance, and would be blown up
            variance = norm.running_var.clamp(min=0.02)
            shape = variance.shape
            norm.running_mean.add_(0.2 * variance.sqrt() * torch.randn(shape, generator=generator))
            norm.running_var.copy_(variance * (0.6 + torch.rand(shape, generator=generator)))
