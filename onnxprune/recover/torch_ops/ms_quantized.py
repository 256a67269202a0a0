"""Quantised operators of ONNX Runtime (com.microsoft): computed on the real numbers that the integers stand for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from onnxprune.recover.registry import MICROSOFT, op
from onnxprune.recover.step import Step
from onnxprune.recover.torch_ops.integers import requantised
from onnxprune.recover.torch_ops.quantization import dynamic_quantize, spread
from onnxprune.recover.torch_ops.recurrent import lstm


def _real(x: Tensor, scale: Tensor, zero: Tensor | None, axis: int) -> Tensor:
    y = x.double() if zero is None else x.double() - spread(zero, x, axis, 0).double()
    return y * spread(scale, x, axis, 0).double()


@op("MatMulIntegerToFloat", domain=MICROSOFT, settings=(2, 3, 4, 5))
def matmul_integer_to_float(
    step: Step, a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor, a_zero: Tensor | None = None,
    b_zero: Tensor | None = None, bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    y = (_real(a, a_scale, a_zero, -2) @ _real(b, b_scale, b_zero, -1)).to(a_scale.dtype)
    return y if bias is None else y + bias


@op("DynamicQuantizeMatMul", domain=MICROSOFT, settings=(2, 3))
def dynamic_quantize_matmul(
    step: Step, a: Tensor, b: Tensor, b_scale: Tensor, b_zero: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    q, scale, zero = dynamic_quantize(step, a)
    return matmul_integer_to_float(step, q, b, scale, b_scale, zero, b_zero, bias)


@op("QLinearAdd", "QLinearMul", domain=MICROSOFT, settings=(1, 2, 4, 5, 6, 7))
def qlinear_arithmetic(
    step: Step, a: Tensor, a_scale: Tensor, a_zero: Tensor | None, b: Tensor, b_scale: Tensor,
    b_zero: Tensor | None, y_scale: Tensor, y_zero: Tensor | None = None,
) -> Any:  # fmt: skip
    left, right = _real(a, a_scale, a_zero, 0), _real(b, b_scale, b_zero, 0)
    y = left + right if step.op == "QLinearAdd" else left * right
    return requantised(y, y_scale.double(), y_zero if y_zero is not None else a.new_zeros(()), 0)


@op("DynamicQuantizeLSTM", domain=MICROSOFT, settings=(8, 9, 10, 11))
def dynamic_quantize_lstm(
    step: Step, x: Tensor, w: Tensor, r: Tensor, b: Tensor | None, lengths: Tensor | None, h: Tensor | None,
    c: Tensor | None, p: Tensor | None, w_scale: Tensor, w_zero: Tensor, r_scale: Tensor, r_zero: Tensor,
) -> Any:  # fmt: skip
    """With real inputs: ONNX Runtime also quantises what is multiplied, so that it differs by that rounding.

    w is [D, I, 4 * hidden], scales [D] or [D, 4 * hidden].
    """
    plain = [
        ((q.to(torch.float32) - _per_gate(zero, q)) * _per_gate(scale, q)).transpose(1, 2)
        for q, scale, zero in ((w, w_scale, w_zero), (r, r_scale, r_zero))
    ]
    return lstm(step, x, plain[0], plain[1], b, lengths, h, c, p)


def _per_gate(vector: Tensor, like: Tensor) -> Tensor:
    return vector.reshape(like.shape[0], 1, -1).to(torch.float32)
