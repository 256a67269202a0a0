"""What attention operators of all domains share: heads, masks, the products. Registers no operator."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def to_heads(x: Tensor, heads: int) -> Tensor:
    """[B, S, heads * D] as [B, heads, S, D]; four axes as they are."""
    return x if x.ndim == 4 else x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def from_heads(x: Tensor) -> Tensor:
    """[B, heads, S, D] as [B, S, heads * D]."""
    return x.transpose(1, 2).flatten(2)


def shared_heads(x: Tensor, heads: int) -> Tensor:
    """Each head of x [B, few, S, D] for a run of `heads` (grouped queries)."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], 1)


def causal(queries: int, keys: int, offset: int, device: torch.device) -> Tensor:
    """True [queries, keys] where query i may see key j: j <= i + offset."""
    i, j = torch.arange(queries, device=device), torch.arange(keys, device=device)
    return j.unsqueeze(0) <= i.unsqueeze(1) + offset


def bias_of(mask: Tensor, like: Tensor) -> Tensor:
    """A boolean mask as what is added to scores: 0 where true, else minus infinity."""
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(~mask, -math.inf)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float | None) -> Tensor:
    """softmax(q k' * scale + bias) v over [B, H, S, D]; heads of k and v may be fewer. Fused where torch can."""
    k, v = shared_heads(k, q.shape[1]), shared_heads(v, q.shape[1])
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)


def softmax_or_zero(scores: Tensor, bias: Tensor | None) -> Tensor:
    """Softmax over the last axis; zeros in a row that the bias forbids whole."""
    found = torch.softmax(scores, -1)
    if bias is None:
        return found
    forbidden = torch.isneginf(bias.amax(-1, keepdim=True))
    return torch.where(forbidden, torch.zeros_like(found), found)
