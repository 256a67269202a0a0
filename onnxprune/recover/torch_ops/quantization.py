"""QuantizeLinear and DequantizeLinear with straight-through gradients.

Rounding passes gradients on as if it were not there, inside the range of the type; outside they are zero (Bengio et
al., "Estimating or Propagating Gradients Through Stochastic Neurons", 2013, arXiv:1308.3432). In training a quantised
value is held in floats, so that it has a gradient; ONNX's integer types are kept where none is asked for.
"""

from __future__ import annotations

from typing import Any

import torch
from onnx import TensorProto
from torch import Tensor

from onnxprune.recover.dtypes import FLOAT8, RANGES, TORCH, UNTOLD
from onnxprune.recover.registry import op
from onnxprune.recover.step import Step

_KINDS = {dtype: kind for kind, dtype in TORCH.items() if kind in RANGES and kind not in UNTOLD}


def rounded(x: Tensor) -> Tensor:
    """x rounded to even, with the gradient of x itself."""
    return x + (torch.round(x) - x).detach() if x.requires_grad else torch.round(x)


def spread(vector: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """A scale or zero point, one for all, one per index of `axis` or one per block of it, to be broadcast to x."""
    if vector.ndim == 0 or (vector.ndim == 1 and vector.numel() == 1):
        return vector.reshape(())
    if block:
        return vector.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    return vector.reshape([-1 if k == axis % x.ndim else 1 for k in range(x.ndim)])


@op("QuantizeLinear", settings=(1, 2))
@op("QuantizeLinear", domain="com.microsoft", settings=(1, 2))
def quantize(step: Step, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    kind = _kind(step, zero)
    axis, block = step.attr("axis", 1), step.attr("block_size", 0)
    scale = spread(scale.to(x.device), x, axis, block)
    precise = step.attr("precision", 0)
    if precise:
        x, scale = x.to(step.dtype(precise)), scale.to(step.dtype(precise))
    if kind in FLOAT8:
        dtype = step.dtype(kind)
        limit = torch.finfo(dtype).max
        y = x / scale
        return (y.clamp(-limit, limit) if step.attr("saturate", 1) else y).to(dtype)
    if kind not in RANGES:
        raise step.refusal(f"quantising to {TensorProto.DataType.Name(kind)} has no torch form")
    low, high = RANGES[kind]
    y = rounded((x / scale).float())
    if zero is not None:
        y = y + spread(zero.to(x.device), x, axis, block).to(y.dtype)
    y = y.clamp(low, high)
    return y if y.requires_grad else y.to(TORCH[kind])


def _kind(step: Step, zero: Tensor | None) -> int:
    """The type to quantise to: the zero point's, else the stated one, else uint8."""
    stated = step.kind(2) or step.attr("output_dtype", 0)
    if stated:
        return int(stated)
    if zero is None:
        return int(TensorProto.UINT8)
    if "float8" in str(zero.dtype):
        return next(kind for kind in FLOAT8 if TORCH[kind] == zero.dtype)
    return int(_KINDS[zero.dtype])


@op("DequantizeLinear", settings=(1, 2))
@op("DequantizeLinear", domain="com.microsoft", settings=(1, 2))
def dequantize(step: Step, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    axis, block = step.attr("axis", 1), step.attr("block_size", 0)
    stated = step.attr("output_dtype", 0)
    scale = scale.to(x.device)
    dtype = step.dtype(stated) if stated else scale.dtype
    y = x.to(torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype)
    if zero is not None:
        y = y - spread(zero.to(x.device), x, axis, block).to(y.dtype)
    return (y * spread(scale, x, axis, block).to(y.dtype)).to(dtype)


@op("DynamicQuantizeLinear")
def dynamic_quantize(step: Step, x: Tensor) -> Any:
    """To uint8 with the scale and zero point that x's own range, zero included, asks for."""
    low, high = x.detach().amin().clamp(max=0), x.detach().amax().clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = torch.round(-low / scale).clamp(0, 255)
    y = (rounded(x / scale) + zero).clamp(0, 255)
    return y if y.requires_grad else y.to(torch.uint8), scale, zero.to(torch.uint8)
