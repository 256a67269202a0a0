"""Products of quantised values as integers. Sums of exact products in floats have a gradient where one is asked for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from onnxprune.recover.dtypes import RANGES
from onnxprune.recover.registry import op
from onnxprune.recover.step import Step
from onnxprune.recover.torch_ops.conv import conv
from onnxprune.recover.torch_ops.quantization import _KINDS, rounded, spread


def _centred(x: Tensor, zero: Tensor | None, axis: int) -> Tensor:
    """x less its zero point as float64, in which sums of products of bytes are exact."""
    y = x.to(torch.float64)
    return y if zero is None else y - spread(zero, x, axis, 0).to(torch.float64)


def _stored(y: Tensor) -> Tensor:
    return y.float() if y.requires_grad else y.to(torch.int32)


@op("MatMulInteger", settings=(2, 3))
def matmul_integer(
    step: Step, a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None
) -> Tensor:
    return _stored(_centred(a, a_zero, -2) @ _centred(b, b_zero, -1))


@op("ConvInteger", settings=(2, 3))
def conv_integer(
    step: Step, x: Tensor, w: Tensor, x_zero: Tensor | None = None, w_zero: Tensor | None = None
) -> Tensor:
    return _stored(conv(step, _centred(x, x_zero, 1), _centred(w, w_zero, 0)))


def requantised(y: Tensor, scale: Tensor, zero: Tensor, axis: int) -> Tensor:
    """Real numbers to the type of a zero point."""
    low, high = RANGES[_KINDS[zero.dtype]]
    found = (rounded(y / spread(scale, y, axis, 0)) + spread(zero, y, axis, 0).to(y.dtype)).clamp(low, high)
    return found if found.requires_grad else found.to(zero.dtype)


@op("QLinearMatMul", settings=(1, 2, 4, 5, 6, 7))
def qlinear_matmul(
    step: Step, a: Tensor, a_scale: Tensor, a_zero: Tensor, b: Tensor, b_scale: Tensor, b_zero: Tensor,
    y_scale: Tensor, y_zero: Tensor,
) -> Any:  # fmt: skip
    left = _centred(a, a_zero, -2) * spread(a_scale, a, -2, 0).double()
    right = _centred(b, b_zero, -1) * spread(b_scale, b, -1, 0).double()
    return requantised(left @ right, y_scale.double(), y_zero, -2)


@op("QLinearConv", settings=(1, 2, 4, 5, 6, 7))
def qlinear_conv(
    step: Step, x: Tensor, x_scale: Tensor, x_zero: Tensor, w: Tensor, w_scale: Tensor, w_zero: Tensor,
    y_scale: Tensor, y_zero: Tensor, b: Tensor | None = None,
) -> Any:  # fmt: skip
    y = conv(step, _centred(x, x_zero, 1), _centred(w, w_zero, 0))
    if b is not None:
        y = y + b.double().reshape(1, -1, *(1,) * (y.ndim - 2))
    real = y * x_scale.double() * spread(w_scale.double(), y, 1, 0)
    return requantised(real, y_scale.double(), y_zero, 1)
