"""Rotary positions of ONNX Runtime (com.microsoft)."""

from __future__ import annotations

import torch
from torch import Tensor

from onnxprune.recover.registry import MICROSOFT, op
from onnxprune.recover.step import Step
from onnxprune.recover.torch_ops.attend import from_heads, to_heads
from onnxprune.recover.torch_ops.rotary import rotate


@op("RotaryEmbedding", domain=MICROSOFT)
def rotary(step: Step, x: Tensor, positions: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [B, S, H * D] or [B, H, S, D]; one position counts on from the start, [B, S] gives each."""
    flat = x.ndim == 3
    heads = step.attr("num_heads", 0) or (x.shape[-1] // (2 * cos.shape[-1]) if flat else 1)
    split = to_heads(x, heads)
    if positions.numel() == 1:
        positions = positions.reshape(1, 1) + torch.arange(split.shape[2], device=x.device)
    turned = rotate(split, cos[positions].unsqueeze(1), sin[positions].unsqueeze(1), bool(step.attr("interleaved", 0)))
    return from_heads(turned) if flat else turned
