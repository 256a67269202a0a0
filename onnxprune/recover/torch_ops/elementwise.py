"""Operators that act on each element: activations, arithmetic, comparisons, logic, casts."""

from __future__ import annotations

import math
from typing import Any

import torch
from onnx import TensorProto
from torch import Tensor
from torch.nn import functional as F

from onnxprune.recover.dtypes import FLOAT8, TORCH, is_unsigned
from onnxprune.recover.registry import op
from onnxprune.recover.step import Step

_UNARY: dict[str, Any] = {
    "Abs": torch.abs, "Acos": torch.acos, "Acosh": torch.acosh, "Asin": torch.asin, "Asinh": torch.asinh,
    "Atan": torch.atan, "Atanh": torch.atanh, "Ceil": torch.ceil, "Cos": torch.cos, "Cosh": torch.cosh,
    "Erf": torch.erf, "Exp": torch.exp, "Floor": torch.floor, "HardSwish": F.hardswish, "IsNaN": torch.isnan,
    "Log": torch.log, "Mish": F.mish, "Not": torch.logical_not, "Reciprocal": torch.reciprocal,
    "Relu": torch.relu, "Round": torch.round, "Sigmoid": torch.sigmoid, "Sign": torch.sign, "Sin": torch.sin,
    "Sinh": torch.sinh, "Softplus": F.softplus, "Softsign": F.softsign, "Sqrt": torch.sqrt, "Tan": torch.tan,
    "Tanh": torch.tanh,
}  # fmt: skip
_COMPARE = {
    "Equal": torch.eq, "Greater": torch.gt, "GreaterOrEqual": torch.ge, "Less": torch.lt, "LessOrEqual": torch.le,
}  # fmt: skip
_LOGIC = {"And": torch.logical_and, "Or": torch.logical_or, "Xor": torch.logical_xor}
_ARITHMETIC: dict[str, Any] = {"Add": torch.add, "Sub": torch.sub, "Mul": torch.mul}
_PAIRWISE: dict[str, Any] = {"Max": torch.maximum, "Min": torch.minimum, "Sum": torch.add, "Mean": torch.add}


@op(*_UNARY)
def unary(step: Step, x: Tensor) -> Any:
    return _UNARY[step.op](x)


@op("Neg")
def neg(step: Step, x: Tensor) -> Tensor:
    return torch.neg(x)


@op("Identity")
def identity(step: Step, x: Any) -> Any:
    return x


def aligned(step: Step, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The operands so that torch broadcasts them: before opset 7 the second one is laid at `axis` of the first."""
    if step.opset < 7 and step.attr("broadcast", 0) and "axis" in step.attrs:
        b = b.reshape(*b.shape, *(1,) * (a.ndim - step.attrs["axis"] % a.ndim - b.ndim))
    return a, b


def signed(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors of the wider unsigned types as int64, which torch computes in."""
    return tuple(t.to(torch.int64) if is_unsigned(t.dtype) else t for t in tensors)


@op(*_ARITHMETIC)
def arithmetic(step: Step, a: Tensor, b: Tensor) -> Tensor:
    one, two = signed(*aligned(step, a, b))
    y = _ARITHMETIC[step.op](one, two)
    return y.to(a.dtype) if one is not a else y


@op("Div")
def div(step: Step, a: Tensor, b: Tensor) -> Tensor:
    one, two = signed(*aligned(step, a, b))
    if one.dtype.is_floating_point or one.dtype.is_complex:
        return torch.div(one, two)
    return torch.div(one, two, rounding_mode="trunc").to(a.dtype)


@op("Pow")
def power(step: Step, a: Tensor, b: Tensor) -> Tensor:
    a, b = aligned(step, a, b)
    return torch.pow(a, b).to(a.dtype) if a.dtype != b.dtype else torch.pow(a, b)


@op("Mod")
def mod(step: Step, a: Tensor, b: Tensor) -> Tensor:
    one, two = signed(a, b)
    return (torch.fmod if step.attr("fmod", 0) else torch.remainder)(one, two).to(a.dtype)


@op(*_COMPARE)
def compare(step: Step, a: Tensor, b: Tensor) -> Any:
    return _COMPARE[step.op](*signed(*aligned(step, a, b)))


@op(*_LOGIC)
def logic(step: Step, a: Tensor, b: Tensor) -> Any:
    return _LOGIC[step.op](*aligned(step, a, b))


@op("Max", "Min", "Sum", "Mean")
def variadic(step: Step, *xs: Tensor) -> Tensor:
    """Of any number of tensors, broadcast against each other."""
    wide = signed(*xs)
    y = wide[0]
    for x in wide[1:]:
        y = _PAIRWISE[step.op](y, x)
    return (y / len(xs) if step.op == "Mean" else y).to(xs[0].dtype)


@op("Where")
def where(step: Step, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition, a, b)


@op("Clip", settings=(1, 2))
def clip(step: Step, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    if step.opset < 11:
        return torch.clamp(x, step.attr("min", -math.inf), step.attr("max", math.inf))
    if low is None and high is None:
        return x
    if low is not None and low.device != x.device:
        low = low.to(x.device)
    if high is not None and high.device != x.device:
        high = high.to(x.device)
    wide = signed(x, *(limit for limit in (low, high) if limit is not None))
    y = wide[0]
    if low is not None:
        y = torch.maximum(y, wide[1])
    if high is not None:
        y = torch.minimum(y, wide[-1])
    return y.to(x.dtype)


@op("Cast")
def cast(step: Step, x: Tensor) -> Tensor:
    return converted(step, x, step.attrs["to"])


@op("CastLike")
def cast_like(step: Step, x: Tensor, like: Tensor) -> Tensor:
    kind = step.kind(1) or next(kind for kind, dtype in TORCH.items() if dtype == like.dtype)
    return converted(step, x, kind)


def converted(step: Step, x: Tensor, kind: int) -> Tensor:
    """x in an ONNX element type: a float becomes true where it is not zero, what is cut to 4 bits wraps around."""
    dtype = step.dtype(kind)
    if kind in (TensorProto.UINT4, TensorProto.INT4):
        low = x.to(torch.int64) & 15
        return (low if kind == TensorProto.UINT4 else ((low ^ 8) - 8)).to(dtype)
    if kind in FLOAT8:
        return _to_float8(x.float(), dtype, bool(step.attr("saturate", 1)))
    if not dtype.is_floating_point and not dtype.is_complex and x.is_floating_point() and dtype != torch.bool:
        return x.to(torch.int64).to(dtype)
    return x.to(dtype)


def _to_float8(x: Tensor, dtype: torch.dtype, saturate: bool) -> Tensor:
    """What is too large becomes the largest value, or without `saturate` infinity where the type has it, else NaN."""
    limit = torch.finfo(dtype).max
    y = x.clamp(-limit, limit).to(dtype).float()
    if not saturate:
        beyond = torch.sign(x) * math.inf if dtype == torch.float8_e5m2 else torch.full_like(x, math.nan)
        y = torch.where(x.abs() > limit, beyond, y)
    return torch.where(torch.isnan(x), x, y).to(dtype)


@op("BitCast")
def bit_cast(step: Step, x: Tensor) -> Tensor:
    return x.view(step.dtype(step.attrs["to"]))


@op("Elu")
def elu(step: Step, x: Tensor) -> Tensor:
    return F.elu(x, step.attr("alpha", 1.0))


@op("Celu")
def celu(step: Step, x: Tensor) -> Tensor:
    return F.celu(x, step.attr("alpha", 1.0))


@op("Selu")
def selu(step: Step, x: Tensor) -> Tensor:
    alpha = step.attr("alpha", 1.6732632423543772)
    gamma = step.attr("gamma", 1.0507009873554805)
    return gamma * torch.where(x > 0, x, alpha * torch.expm1(torch.clamp(x, max=0)))


@op("LeakyRelu")
def leaky_relu(step: Step, x: Tensor) -> Tensor:
    return F.leaky_relu(x, step.attr("alpha", 0.01))


@op("ThresholdedRelu")
def thresholded_relu(step: Step, x: Tensor) -> Tensor:
    return torch.where(x > step.attr("alpha", 1.0), x, torch.zeros_like(x))


@op("HardSigmoid")
def hard_sigmoid(step: Step, x: Tensor) -> Tensor:
    return torch.clamp(step.attr("alpha", 0.2) * x + step.attr("beta", 0.5), 0, 1)


@op("Shrink")
def shrink(step: Step, x: Tensor) -> Tensor:
    bias, limit = step.attr("bias", 0.0), step.attr("lambd", 0.5)
    return torch.where(x < -limit, x + bias, torch.where(x > limit, x - bias, torch.zeros_like(x)))


@op("Gelu")
def gelu(step: Step, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=step.attr("approximate", "none"))


@op("Swish")
def swish(step: Step, x: Tensor) -> Tensor:
    alpha = step.attr("alpha", 1.0)
    return F.silu(x) if alpha == 1 else x * torch.sigmoid(alpha * x)


@op("SwiGLU")
def swiglu(step: Step, x: Tensor, *more: Tensor) -> Tensor:
    """The halves of x along `axis`: SiLU of the first times the second."""
    gate, up = (x, more[0]) if more else torch.chunk(x, 2, step.attr("axis", -1))
    return gate * torch.sigmoid(step.attr("alpha", 1.0) * gate) * up


@op("PRelu")
def prelu(step: Step, x: Tensor, slope: Tensor) -> Tensor:
    if step.opset < 7 and slope.ndim == 1 and x.ndim > 2:
        slope = slope.reshape(-1, *(1,) * (x.ndim - 2))
    return torch.where(x < 0, x * slope, x)


@op("IsInf")
def is_inf(step: Step, x: Tensor) -> Tensor:
    found = torch.zeros_like(x, dtype=torch.bool)
    if step.attr("detect_positive", 1):
        found = found | torch.isposinf(x)
    if step.attr("detect_negative", 1):
        found = found | torch.isneginf(x)
    return found
