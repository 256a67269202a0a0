"""Operators on the bits of integers."""

from __future__ import annotations

import torch
from torch import Tensor

from onnxprune.recover.registry import op
from onnxprune.recover.step import Step

_FORMS = {"BitwiseAnd": torch.bitwise_and, "BitwiseOr": torch.bitwise_or, "BitwiseXor": torch.bitwise_xor}


@op(*_FORMS)
def bitwise(step: Step, a: Tensor, b: Tensor) -> Tensor:
    return _FORMS[step.op](a.to(torch.int64), b.to(torch.int64)).to(a.dtype)


@op("BitwiseNot")
def bitwise_not(step: Step, x: Tensor) -> Tensor:
    return torch.bitwise_not(x.to(torch.int64)).to(x.dtype)


@op("BitShift")
def bit_shift(step: Step, x: Tensor, by: Tensor) -> Tensor:
    """Unsigned integers. Of 64 bits only values below 2^63 come out right: torch has no wider arithmetic."""
    wide, count = x.to(torch.int64), by.to(torch.int64)
    y = wide << count if step.attrs["direction"] == "LEFT" else wide >> count
    return y.to(x.dtype)
