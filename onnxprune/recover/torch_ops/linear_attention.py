"""Attention as a recurrence over a state (ONNX LinearAttention)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from onnxprune.recover.registry import MICROSOFT, op
from onnxprune.recover.step import Step
from onnxprune.recover.torch_ops.attend import from_heads, to_heads


@op("LinearAttention")
@op("LinearAttention", domain=MICROSOFT)
def linear_attention(
    step: Step, q: Tensor, k: Tensor, v: Tensor, past: Tensor | None = None, decay: Tensor | None = None,
    beta: Tensor | None = None,
) -> Any:  # fmt: skip
    """q [B, T, Hq * Dk], k and v with Hkv heads; the state [B, Hkv, Dk, Dv] is decayed, corrected, written, read."""
    few, many = step.attrs["kv_num_heads"], step.attrs["q_num_heads"]
    rule = step.attr("update_rule", "gated_delta")
    queries, keys, values = to_heads(q, many), to_heads(k, few), to_heads(v, few)
    batch, _, _, width = keys.shape
    state = past if past is not None else values.new_zeros(batch, few, width, values.shape[-1])
    scale = step.attr("scale", 0.0) or 1 / math.sqrt(width)
    fades = None if decay is None else to_heads(decay, few)
    rates = None if beta is None else beta.transpose(1, 2).unsqueeze(-1)
    outputs = []
    for t in range(q.shape[1]):
        key, value = keys[:, :, t], values[:, :, t]
        if fades is not None and "gated" in rule:
            state = state * torch.exp(fades[:, :, t]).unsqueeze(-1)
        if rates is not None and "delta" in rule:
            value = rates[:, :, t] * (value - torch.einsum("bhdm,bhd->bhm", state, key))
        state = state + key.unsqueeze(-1) * value.unsqueeze(-2)
        read = state if many == few else state.repeat_interleave(many // few, 1)
        outputs.append(scale * torch.einsum("bhd,bhdm->bhm", queries[:, :, t], read))
    y = from_heads(torch.stack(outputs, 2)).to(q.dtype)
    return y if step.single else (y, state)
