"""Normalisations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from onnxprune.recover.registry import op
from onnxprune.recover.step import Step
from onnxprune.recover.torch_ops.spatial import like_channels

_STATED_MODE_SINCE = 14


@op("BatchNormalization")
def batch_norm(step: Step, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Any:
    """Training form (`training_mode`, or `is_test=0` of opset 6) as the node says; else torch's train and eval.

    In the module's training mode an inference form takes the batch's statistics and moves the running ones, where
    these are its own (Step.tracked).
    """
    epsilon, keep = step.attr("epsilon", 1e-5), step.attr("momentum", 0.9)
    in_graph = step.attr("training_mode", 0) if step.opset >= _STATED_MODE_SINCE else step.wants(1)
    if in_graph:
        axes = [0, *range(2, x.ndim)]
        now, spread = x.mean(axes), x.var(axes, unbiased=False)
        y = F.batch_norm(x, None, None, scale, bias, True, 0.0, epsilon)
        moved = (keep * mean + (1 - keep) * now, keep * var + (1 - keep) * spread)
        return y if step.single else (y, *moved, now, spread)[: len(step.outputs)]
    if step.training and step.tracked and x.numel() > x.shape[1]:
        return F.batch_norm(x, mean, var, scale, bias, True, 1 - keep, epsilon)
    if mean.requires_grad or var.requires_grad:  # computed in the graph; torch takes running statistics as fixed
        factor = scale * torch.rsqrt(var + epsilon)
        return x * like_channels(factor, x) + like_channels(bias - mean * factor, x)
    return F.batch_norm(x, mean, var, scale, bias, False, 0.0, epsilon)


@op("InstanceNormalization")
def instance_norm(step: Step, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    axes = list(range(2, x.ndim))
    var, mean = torch.var_mean(x, axes, unbiased=False, keepdim=True)
    y = (x - mean) * torch.rsqrt(var + step.attr("epsilon", 1e-5))
    return y * like_channels(scale, x) + like_channels(bias, x)


@op("LayerNormalization")
def layer_norm(step: Step, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Any:
    """Over the axes from `axis` on."""
    axis, epsilon = step.attr("axis", -1) % x.ndim, step.attr("epsilon", 1e-5)
    shape = x.shape[axis:]
    if scale.shape == shape and (bias is None or bias.shape == shape):
        y = F.layer_norm(x, shape, scale, bias, epsilon)
    else:
        y = F.layer_norm(x, shape, None, None, epsilon) * scale
        y = y if bias is None else y + bias
    if step.single:
        return y
    axes = list(range(axis, x.ndim))
    var, mean = torch.var_mean(x, axes, unbiased=False, keepdim=True)
    return (y, mean, torch.rsqrt(var + epsilon))[: len(step.outputs)]


@op("RMSNormalization")
def rms_norm(step: Step, x: Tensor, scale: Tensor) -> Tensor:
    axes = list(range(step.attr("axis", -1) % x.ndim, x.ndim))
    square = torch.mean(x.float() * x.float() if x.dtype != torch.float64 else x * x, axes, keepdim=True)
    return (x * torch.rsqrt(square + step.attr("epsilon", 1e-5))).to(x.dtype) * scale


@op("GroupNormalization")
def group_norm(step: Step, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Before opset 21 scale and bias are one number a group."""
    groups, epsilon = step.attrs["num_groups"], step.attr("epsilon", 1e-5)
    if scale.shape[0] != x.shape[1]:
        scale, bias = (v.repeat_interleave(x.shape[1] // groups) for v in (scale, bias))
    return F.group_norm(x, groups, scale, bias, epsilon)


@op("LpNormalization")
def lp_norm(step: Step, x: Tensor) -> Tensor:
    axis, p = step.attr("axis", -1), step.attr("p", 2)
    size = torch.linalg.vector_norm(x, p, dim=axis, keepdim=True)
    return torch.where(size == 0, torch.zeros_like(x), x / torch.where(size == 0, torch.ones_like(size), size))


@op("MeanVarianceNormalization")
def mean_variance_norm(step: Step, x: Tensor) -> Tensor:
    axes = list(step.attr("axes", [0, 2, 3]))
    mean = x.mean(axes, keepdim=True)
    spread = torch.sqrt((x * x).mean(axes, keepdim=True) - mean * mean)
    return (x - mean) / (spread + 1e-9)


@op("LRN")
def local_response_norm(step: Step, x: Tensor) -> Tensor:
    """Over `size` neighbouring channels, the odd one after the middle."""
    size = step.attrs["size"]
    square = F.pad((x * x).movedim(1, -1), ((size - 1) // 2, size - 1 - (size - 1) // 2))
    total = square.unfold(-1, size, 1).sum(-1).movedim(-1, 1)
    return x / (step.attr("bias", 1.0) + step.attr("alpha", 1e-4) / size * total) ** step.attr("beta", 0.75)
