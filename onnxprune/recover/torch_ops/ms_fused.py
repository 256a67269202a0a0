"""Products that ONNX Runtime fuses with what stands beside them (com.microsoft)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from onnxprune.recover.registry import MICROSOFT, op
from onnxprune.recover.step import Step, ints
from onnxprune.recover.torch_ops.conv import conv, conv_transpose
from onnxprune.recover.torch_ops.matmul import gemm


def activated(step: Step, x: Tensor) -> Tensor:
    """The node's `activation`, with its parameters."""
    name = step.attr("activation", "")
    given = list(step.attr("activation_params") or [])
    if not given:
        given = [step.attr("activation_alpha", 0.0), step.attr("activation_beta", 0.0)]
    alpha, beta = (*given, 0.0, 0.0)[:2]
    if name == "":
        return x
    plain = {"Relu": torch.relu, "Tanh": torch.tanh, "Sigmoid": torch.sigmoid, "Softplus": F.softplus,
             "Softsign": F.softsign, "Gelu": F.gelu, "HardSwish": F.hardswish}  # fmt: skip
    if name in plain:
        return plain[name](x)
    if name == "LeakyRelu":
        return F.leaky_relu(x, alpha)
    if name == "Clip":
        return torch.clamp(x, alpha, beta)
    if name == "HardSigmoid":
        return torch.clamp(alpha * x + beta, 0, 1)
    if name == "Elu":
        return F.elu(x, alpha)
    raise step.refusal(f"its activation {name!r} has no torch form")


@op("FusedConv", domain=MICROSOFT)
def fused_conv(step: Step, x: Tensor, w: Tensor, b: Tensor | None = None, z: Tensor | None = None) -> Tensor:
    y = conv(step, x, w, b)
    return activated(step, y if z is None else y + z)


@op("NhwcConv", "NhwcFusedConv", domain=MICROSOFT)
def nhwc_conv(step: Step, x: Tensor, w: Tensor, b: Tensor | None = None, z: Tensor | None = None) -> Tensor:
    """Channels last; the weight as ever."""
    y = conv(step, x.movedim(-1, 1), w, b).movedim(1, -1)
    return activated(step, y if z is None else y + z)


@op("ConvTransposeWithDynamicPads", domain=MICROSOFT, settings=(2,))
def conv_transpose_dynamic(
    step: Step, x: Tensor, w: Tensor, pads: Tensor | None = None, b: Tensor | None = None
) -> Tensor:
    y = conv_transpose(step, x, w, b)
    sizes = ints(pads)
    for axis in range(len(sizes) // 2):
        y = y.narrow(2 + axis, sizes[axis], y.shape[2 + axis] - sizes[axis] - sizes[axis + len(sizes) // 2])
    return y


@op("FusedGemm", domain=MICROSOFT)
def fused_gemm(step: Step, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    return activated(step, gemm(step, a, b, c))


@op("FusedMatMul", "TransposeMatMul", domain=MICROSOFT)
def fused_matmul(step: Step, a: Tensor, b: Tensor) -> Tensor:
    """Each side may have its last two axes swapped, and its first moved next to last."""
    return _turned(step, a, "A") @ _turned(step, b, "B") * step.attr("alpha", 1.0)


def _turned(step: Step, x: Tensor, side: str) -> Tensor:
    if step.attr(f"transBatch{side}", 0):
        x = x.movedim(0, -2)
    return x.transpose(-1, -2) if step.attr(f"trans{side}", 0) and x.ndim > 1 else x


@op("GemmFastGelu", domain=MICROSOFT)
def gemm_fast_gelu(step: Step, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    y = x @ w
    return F.gelu(y if bias is None else y + bias, approximate="tanh")


@op("Inverse", domain=MICROSOFT)
def inverse(step: Step, x: Tensor) -> Tensor:
    return torch.linalg.inv(x)


@op("ExpandDims", domain=MICROSOFT, settings=(1,))
def expand_dims(step: Step, x: Tensor, axis: Tensor) -> Tensor:
    return x.unsqueeze(ints(axis)[0])


@op("UnfoldTensor", domain=MICROSOFT)
def unfold(step: Step, x: Tensor) -> Tensor:
    return x.unfold(step.attr("dim", -1), step.attrs["size"], step.attr("step", 1))
