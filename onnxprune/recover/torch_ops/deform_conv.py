"""Deformable convolution."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from onnxprune.recover.registry import op
from onnxprune.recover.step import Step
from onnxprune.recover.torch_ops.spatial import dilations_of, strides_of


@op("DeformConv")
def deform_conv(
    step: Step, x: Tensor, w: Tensor, offset: Tensor, b: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    """Two spatial axes. Each tap of each window is sampled where `offset` moves it, then weighed by `mask`."""
    if x.ndim != 4:
        raise step.refusal("deformable convolution is known over two axes only")
    n, channels, height, width = x.shape
    kh, kw = w.shape[2:]
    groups, parts = step.attr("group", 1), step.attr("offset_group", 1)
    pads, strides, dilations = step.attr("pads") or [0] * 4, strides_of(step, 2), dilations_of(step, 2)
    oh, ow = offset.shape[2:]
    moved = offset.reshape(n, parts, kh * kw, 2, oh, ow)

    def tap(k: Tensor, axis: int) -> Tensor:
        return (k * dilations[axis] - pads[axis]).to(x.dtype)

    taps = torch.arange(kh * kw, device=x.device)
    rows = tap(taps // kw, 0)[:, None, None] + (torch.arange(oh, device=x.device) * strides[0])[None, :, None]
    columns = tap(taps % kw, 1)[:, None, None] + (torch.arange(ow, device=x.device) * strides[1])[None, None, :]
    y = (moved[:, :, :, 0] + rows).reshape(n * parts, kh * kw * oh, ow)
    z = (moved[:, :, :, 1] + columns).reshape(n * parts, kh * kw * oh, ow)
    # places of pixels as grid_sample has them without align_corners: also right for an axis of length 1
    grid = torch.stack([(2 * z + 1) / width - 1, (2 * y + 1) / height - 1], -1)
    seen = F.grid_sample(x.reshape(n * parts, channels // parts, height, width), grid, align_corners=False)
    seen = seen.reshape(n, parts, channels // parts, kh * kw, oh, ow)
    if mask is not None:
        seen = seen * mask.reshape(n, parts, 1, kh * kw, oh, ow)
    seen = seen.reshape(n, groups, channels // groups * kh * kw, oh * ow)
    kernel = w.reshape(groups, w.shape[0] // groups, -1)
    found = torch.einsum("gok,ngkp->ngop", kernel, seen).reshape(n, w.shape[0], oh, ow)
    return found if b is None else found + b.reshape(1, -1, 1, 1)
