"""Attention of ai.onnx, and rotary positions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from onnxprune.recover.registry import op
from onnxprune.recover.step import Step
from onnxprune.recover.torch_ops.attend import attend, bias_of, from_heads, shared_heads, softmax_or_zero, to_heads
from onnxprune.recover.torch_ops.rotary import rotate

_WITH_BIAS, _AFTER_SOFTMAX = 2, 3


@op("Attention")
def attention(
    step: Step, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, past_k: Tensor | None = None,
    past_v: Tensor | None = None, real_keys: Tensor | None = None,
) -> Any:  # fmt: skip
    """Q, K, V as [B, H, S, D] or [B, S, H * D]; keys of the past come first, `real_keys` says how many are real."""
    flat = q.ndim == 3
    q = to_heads(q, step.attr("q_num_heads", 1))
    k, v = (to_heads(x, step.attr("kv_num_heads", 1)) for x in (k, v))
    offset = 0 if past_k is None else past_k.shape[2]
    if past_k is not None and past_v is not None:
        k, v = torch.cat([past_k, k], 2), torch.cat([past_v, v], 2)
    bias = _bias(step, q, k, mask, offset, real_keys)
    cap, scale = step.attr("softcap", 0.0), step.attr("scale") or 1 / math.sqrt(q.shape[-1])
    scores = None
    may_forbid_rows = mask is not None or real_keys is not None
    if cap or step.wants(3) or step.attr("softmax_precision") or may_forbid_rows:
        y, scores = _spelled(step, q, k, v, bias, scale, cap)
    else:
        y = attend(q, k, v, bias, scale)
    y = from_heads(y) if flat else y
    return y if step.single else (y, k, v, scores)[: len(step.outputs)]


def _bias(step: Step, q: Tensor, k: Tensor, mask: Tensor | None, past: int, real_keys: Tensor | None) -> Tensor | None:
    """What is added to the scores [B or 1, H or 1, queries, keys]; None for nothing."""
    queries, keys = q.shape[2], k.shape[2]
    bias = None
    if mask is not None:
        missing = keys - mask.shape[-1]
        if mask.dtype == torch.bool:
            mask = bias_of(mask, q)
        bias = F.pad(mask, (0, missing), value=-math.inf) if missing > 0 else mask
    left, right = step.attr("left_window_size", -1), step.attr("right_window_size", -1)
    place = torch.arange(queries, device=q.device).unsqueeze(1)
    if real_keys is not None:
        place = place + (real_keys.to(q.device) - queries).reshape(-1, 1, 1, 1)
    else:
        place = place + past
    key = torch.arange(keys, device=q.device)
    allowed: list[Tensor] = []
    if step.attr("is_causal", 0):
        allowed.append(key <= place)
    if left >= 0:
        allowed.append(place - key <= left)
    if right >= 0:
        allowed.append(key - place <= right)
    if real_keys is not None:
        allowed.append(key < real_keys.to(q.device).reshape(-1, 1, 1, 1))
    for item in allowed:
        more = bias_of(item, q)
        bias = more if bias is None else bias + more
    return bias


def _spelled(
    step: Step, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float, cap: float
) -> tuple[Tensor, Tensor]:
    """Step by step, for what the fused form cannot say."""
    mode, root = step.attr("qk_matmul_output_mode", 0), math.sqrt(scale)
    k, v = shared_heads(k, q.shape[1]), shared_heads(v, q.shape[1])
    scores = (q * root) @ (k.transpose(-1, -2) * root)
    if cap:
        scores = cap * torch.tanh(scores / cap)
    biased = scores if bias is None else scores + bias
    precise = step.attr("softmax_precision")
    shares = softmax_or_zero(biased if precise is None else biased.to(step.dtype(precise)), bias).to(q.dtype)
    shown = biased if mode == _WITH_BIAS else shares if mode == _AFTER_SOFTMAX else scores
    return shares @ v, shown


@op("RotaryEmbedding", since=23)
def rotary(step: Step, x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None = None) -> Tensor:
    """x [B, H, S, D] or [B, S, H * D]; cos and sin are tables if there are positions, else per sample and place."""
    flat = x.ndim == 3
    heads = to_heads(x, step.attr("num_heads", 1))
    if positions is not None:
        cos, sin = cos[positions], sin[positions]
    y = rotate(heads, cos.unsqueeze(1), sin.unsqueeze(1), bool(step.attr("interleaved", 0)))
    return from_heads(y) if flat else y
