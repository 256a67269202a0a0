"""Attention operators that ONNX Runtime's optimiser writes (com.microsoft)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from onnxprune.recover.registry import MICROSOFT, op
from onnxprune.recover.step import Step, ints
from onnxprune.recover.torch_ops.attend import attend, bias_of, causal, from_heads, to_heads
from onnxprune.recover.torch_ops.rotary import rotate


def _scale(step: Step) -> float | None:
    """0 or nothing stands for one over the root of the head size."""
    return step.attr("scale", 0.0) or None


def _bias(step: Step, q: Tensor, k: Tensor, mask: Tensor | None, scores: Tensor | None) -> Tensor | None:
    """What is added to scores [B, H, queries, keys]: a mask of padding, what comes later, and given scores."""
    bias = scores
    low = step.attr("mask_filter_value", -10000.0)
    past = k.shape[2] - q.shape[2]
    if mask is not None:
        if mask.ndim == 1:  # how many keys are real, of each sample
            mask = torch.arange(k.shape[2], device=q.device) < mask[: q.shape[0]].reshape(-1, 1)
        keep = mask[:, None, None, :] if mask.ndim == 2 else mask.unsqueeze(1) if mask.ndim == 3 else mask
        more = torch.where(keep.bool(), 0.0, low).to(q.dtype)
        bias = more if bias is None else bias + more
    if step.attr("unidirectional", 0):
        more = bias_of(causal(q.shape[2], k.shape[2], past, q.device), q)
        bias = more if bias is None else bias + more
    return bias


@op("Attention", domain=MICROSOFT, settings=(6,))
def attention(
    step: Step, x: Tensor, w: Tensor, b: Tensor | None = None, mask: Tensor | None = None, past: Tensor | None = None,
    scores: Tensor | None = None, past_length: Tensor | None = None,
) -> Any:  # fmt: skip
    """x [B, S, I], w [I, Q + K + V]; the past is [2, B, H, P, D]."""
    heads = step.attrs["num_heads"]
    sizes = list(step.attr("qkv_hidden_sizes") or [w.shape[1] // 3] * 3)
    product = x @ w if b is None else x @ w + b
    q, k, v = (to_heads(part, heads) for part in product.split(sizes, -1))
    if past is not None:
        k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
    y = from_heads(attend(q, k, v, _bias(step, q, k, mask, scores), _scale(step)))
    return y if step.single else (y, torch.stack([k, v]))


@op("MultiHeadAttention", domain=MICROSOFT, settings=(8,))
def multi_head_attention(
    step: Step, q: Tensor, k: Tensor | None = None, v: Tensor | None = None, bias: Tensor | None = None,
    mask: Tensor | None = None, scores: Tensor | None = None, past_k: Tensor | None = None,
    past_v: Tensor | None = None, past_length: Tensor | None = None,
) -> Any:  # fmt: skip
    """q [B, S, H * D] beside k, v; or packed as [B, S, H, 3, D], and k as [B, L, H, 2, D]."""
    heads = step.attrs["num_heads"]
    if q.ndim == 5:
        q, k, v = (part.flatten(2) for part in q.unbind(3))
    elif k is not None and k.ndim == 5:
        k, v = (part.flatten(2) for part in k.unbind(3))
    if k is None or v is None:
        raise step.refusal("it has neither keys nor a packed input")
    if bias is not None:
        width = q.shape[-1]
        parts = bias.split([width, width, bias.shape[0] - 2 * width])
        q = q + parts[0]
        k, v = (x + part if x.ndim == 3 else x for x, part in zip((k, v), parts[1:], strict=True))
    q, k, v = (to_heads(x, heads) for x in (q, k, v))
    if past_k is not None and past_v is not None:
        k, v = torch.cat([past_k, k], 2), torch.cat([past_v, v], 2)
    added = _bias(step, q, k, mask, scores)
    y = from_heads(attend(q, k, v, added, _scale(step)))
    if step.single:
        return y
    shown = None
    if step.wants(3):
        shown = q @ k.transpose(-1, -2) * (_scale(step) or 1 / math.sqrt(q.shape[-1]))
        shown = shown if added is None else shown + added
    return (y, k, v, shown)[: len(step.outputs)]


@op("GroupQueryAttention", domain=MICROSOFT, settings=(5, 6))
def group_query_attention(
    step: Step, q: Tensor, k: Tensor | None, v: Tensor | None, past_k: Tensor | None, past_v: Tensor | None,
    lengths: Tensor, total: Tensor, cos: Tensor | None = None, sin: Tensor | None = None,
    positions: Tensor | None = None, scores: Tensor | None = None,
) -> Any:  # fmt: skip
    """Causal attention of many query heads over few of keys and values; `lengths` holds each sample's keys less one.

    All samples must have the same length, as in training: keys of the past are laid before the new ones.
    """
    many, few = step.attrs["num_heads"], step.attrs["kv_num_heads"]
    if k is None or v is None:
        width = q.shape[-1] // (many + 2 * few)
        q, k, v = q.split([many * width, few * width, few * width], -1)
    if len(set(ints(lengths))) > 1:
        raise step.refusal("samples of different lengths in one batch have no torch form")
    q, k, v = to_heads(q, many), to_heads(k, few), to_heads(v, few)
    before = ints(lengths)[0] + 1 - q.shape[2]
    if step.attr("do_rotary", 0) and cos is not None and sin is not None:
        at = torch.arange(before, before + q.shape[2], device=q.device).unsqueeze(0) if positions is None else positions
        angles = cos[at].unsqueeze(1), sin[at].unsqueeze(1)
        q, k = (rotate(x, *angles, bool(step.attr("rotary_interleaved", 0))) for x in (q, k))
    if past_k is not None and past_v is not None:
        k, v = torch.cat([past_k[:, :, :before], k], 2), torch.cat([past_v[:, :, :before], v], 2)
    seen = causal(q.shape[2], k.shape[2], k.shape[2] - q.shape[2], q.device)
    window = step.attr("local_window_size", -1)
    if window > 0:
        seen = seen & ~causal(q.shape[2], k.shape[2], k.shape[2] - q.shape[2] - window, q.device)
    bias = bias_of(seen, q)
    if scores is not None:
        bias = bias + scores
    if step.attr("softcap", 0.0):
        raise step.refusal("softcap has no torch form here")
    y = from_heads(attend(q, k, v, bias, _scale(step)))
    return y if step.single else (y, k, v)[: len(step.outputs)]
