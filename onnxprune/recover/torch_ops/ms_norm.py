"""Normalisations of ONNX Runtime (com.microsoft)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from onnxprune.recover.registry import MICROSOFT, op
from onnxprune.recover.step import Step


def _rms(x: Tensor, scale: Tensor, epsilon: float) -> Tensor:
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + epsilon) * scale


@op("SimplifiedLayerNormalization")
@op("SimplifiedLayerNormalization", domain=MICROSOFT)
def simplified_layer_norm(step: Step, x: Tensor, scale: Tensor) -> Any:
    epsilon, axes = step.attr("epsilon", 1e-5), list(range(step.attr("axis", -1) % x.ndim, x.ndim))
    spread = torch.rsqrt((x * x).mean(axes, keepdim=True) + epsilon)
    y = x * spread * scale
    return y if step.single else (y, spread)


@op("SkipLayerNormalization", domain=MICROSOFT)
def skip_layer_norm(
    step: Step, x: Tensor, skip: Tensor, gamma: Tensor, beta: Tensor | None = None, bias: Tensor | None = None
) -> Any:
    """Of the sum of x, skip and bias; the sum itself is the fourth output."""
    total = x + skip if bias is None else x + skip + bias
    y = F.layer_norm(total, gamma.shape, gamma, beta, step.attr("epsilon", 1e-5))
    return y if step.single else _with_sum(step, y, total)


@op("SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def skip_simplified_layer_norm(step: Step, x: Tensor, skip: Tensor, gamma: Tensor, bias: Tensor | None = None) -> Any:
    total = x + skip if bias is None else x + skip + bias
    y = _rms(total, gamma, step.attr("epsilon", 1e-5))
    return y if step.single else _with_sum(step, y, total)


def _with_sum(step: Step, y: Tensor, total: Tensor) -> Any:
    """Output, mean, inverse deviation, sum: the two in the middle are made by no runtime outside of training."""
    return (y, y.new_zeros(0), y.new_zeros(0), total)[: len(step.outputs)]


@op("EmbedLayerNormalization", domain=MICROSOFT)
def embed_layer_norm(
    step: Step, ids: Tensor, segment_ids: Tensor | None, words: Tensor, places: Tensor, segments: Tensor | None,
    gamma: Tensor, beta: Tensor, mask: Tensor | None = None, place_ids: Tensor | None = None,
) -> Any:  # fmt: skip
    """Word, position and segment rows added and normalised; how many tokens of each sample are real; the sum."""
    total = words[ids.long()]
    at = torch.arange(ids.shape[1], device=ids.device) if place_ids is None else place_ids.long()
    total = total + places[at]
    if segments is not None and segment_ids is not None:
        total = total + segments[segment_ids.long()]
    y = F.layer_norm(total, gamma.shape, gamma, beta, step.attr("epsilon", 1e-12))
    count = ids.new_zeros(ids.shape[0]) if mask is None else mask.sum(1)
    return y if step.single else (y, count.to(torch.int32), total)[: len(step.outputs)]


@op("GroupNorm", domain=MICROSOFT)
def group_norm(step: Step, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Channels last unless `channels_last` is 0; SiLU after it where `activation` is 1."""
    last = bool(step.attr("channels_last", 1))
    y = F.group_norm(x.movedim(-1, 1) if last else x, step.attrs["groups"], gamma, beta, step.attr("epsilon", 1e-5))
    y = F.silu(y) if step.attr("activation", 0) else y
    return y.movedim(1, -1) if last else y


@op("SkipGroupNorm", domain=MICROSOFT)
def skip_group_norm(
    step: Step, x: Tensor, gamma: Tensor, beta: Tensor, skip: Tensor, bias: Tensor | None = None
) -> Any:
    if skip.ndim == 2:
        skip = skip[:, None, None, :] if step.attr("channels_last", 1) else skip[:, :, None, None]
    total = x + skip
    if bias is not None:
        total = total + (bias if step.attr("channels_last", 1) else bias.reshape(1, -1, 1, 1))
    y = group_norm(step, total, gamma, beta)
    return y if step.single else (y, total)


@op("GatedRMSNorm", domain=MICROSOFT)
def gated_rms_norm(step: Step, x: Tensor, scale: Tensor, gate: Tensor) -> Tensor:
    """Over runs of the scale's length of the last axis, then times the gate's activation."""
    parts = x.reshape(*x.shape[:-1], -1, scale.shape[0])
    y = _rms(parts, scale, step.attr("epsilon", 1e-5)).reshape(x.shape)
    kind = step.attr("activation", "silu")
    return y * (torch.sigmoid(gate) if kind == "sigmoid" else F.silu(gate))
