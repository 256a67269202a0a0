"""Matrix products."""

from __future__ import annotations

import torch
from torch import Tensor

from onnxprune.recover.registry import op
from onnxprune.recover.step import Step


@op("MatMul")
def matmul(step: Step, a: Tensor, b: Tensor) -> Tensor:
    if not a.is_floating_point() and not a.is_complex():
        return torch.matmul(a.to(torch.int64), b.to(torch.int64)).to(a.dtype)
    if b.ndim == 2 and a.ndim > 2:
        # one product of matrices: torch would copy b once for each of a's leading axes that is not contiguous
        return torch.nn.functional.linear(a, b.t())
    return torch.matmul(a, b)


@op("Gemm")
def gemm(step: Step, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """alpha * A' B' + beta * C, where A' and B' may be transposed."""
    if step.attr("transA", 0):
        a = a.t()
    if step.attr("transB", 0):
        b = b.t()
    alpha, beta = step.attr("alpha", 1.0), step.attr("beta", 1.0)
    if not a.is_floating_point():
        y = a.to(torch.int64) @ b.to(torch.int64) * int(alpha)
        return (y if c is None else y + int(beta) * c).to(a.dtype)
    if c is None:
        y = a @ b
        return y if alpha == 1 else y * alpha
    return torch.addmm(c, a, b, beta=beta, alpha=alpha)


@op("Det")
def det(step: Step, x: Tensor) -> Tensor:
    return torch.linalg.det(x)
