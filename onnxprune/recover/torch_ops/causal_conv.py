"""Depthwise convolution over the past (ONNX CausalConvWithState)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from onnxprune.recover.registry import MICROSOFT, op
from onnxprune.recover.step import Step


@op("CausalConvWithState")
@op("CausalConvWithState", domain=MICROSOFT)
def causal_conv(step: Step, x: Tensor, w: Tensor, b: Tensor | None = None, past: Tensor | None = None) -> Any:
    """x [B, C, L] (or [B, L, C] with `channels_last`), w [C, 1, k]; the state, laid out as x is, came before."""
    last = bool(step.attr("channels_last", 0))
    x = x.transpose(1, 2) if last else x
    dilation = step.attr("dilation", 1)
    reach = (w.shape[2] - 1) * dilation
    before = x.new_zeros(*x.shape[:2], reach) if past is None else past.transpose(1, 2) if last else past
    seen = torch.cat([before, x], 2)
    y = F.conv1d(seen, w, b, dilation=dilation, groups=x.shape[1])
    if step.attr("activation", "none") in ("silu", "swish"):
        y = F.silu(y)
    state = seen[:, :, seen.shape[2] - reach :]
    if last:
        y, state = y.transpose(1, 2), state.transpose(1, 2)
    return y if step.single else (y, state)
