"""Blocks of places to channels and back."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from onnxprune.recover.registry import op
from onnxprune.recover.step import Step, ints


@op("DepthToSpace")
def depth_to_space(step: Step, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    b = step.attrs["blocksize"]
    if step.attr("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, b)
    return x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // b**2, h * b, w * b)


@op("SpaceToDepth")
def space_to_depth(step: Step, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    b = step.attrs["blocksize"]
    blocks = x.reshape(n, c, h // b, b, w // b, b)
    order = (0, 1, 3, 5, 2, 4) if step.attr("mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4)
    return blocks.permute(order).reshape(n, c * b * b, h // b, w // b)


@op("Col2Im", settings=(1, 2))
def col2im(step: Step, x: Tensor, image: Tensor, block: Tensor) -> Tensor:
    """Adds up blocks [N, C * block, L] where they overlap, over any number of axes."""
    sizes, kernel = ints(image), ints(block)
    rank = len(sizes)
    dilations, strides = step.attr("dilations") or [1] * rank, step.attr("strides") or [1] * rank
    pads = step.attr("pads") or [0] * (2 * rank)
    full = [sizes[k] + pads[k] + pads[k + rank] for k in range(rank)]
    counts = [(full[k] - dilations[k] * (kernel[k] - 1) - 1) // strides[k] + 1 for k in range(rank)]
    place = torch.zeros((), dtype=torch.int64, device=x.device)
    for k in range(rank):  # the flat place in the padded image, for each (place in the block, block)
        inside = torch.arange(kernel[k], device=x.device) * dilations[k]
        start = torch.arange(counts[k], device=x.device) * strides[k]
        along = (inside[:, None] + start[None, :]).reshape(
            *(kernel[k] if j == k else 1 for j in range(rank)), *(counts[k] if j == k else 1 for j in range(rank))
        )
        place = place * full[k] + along
    area = math.prod(kernel)
    n, channels = x.shape[0], x.shape[1] // area
    source = x.reshape(n, channels, -1)
    y = x.new_zeros(n, channels, math.prod(full)).index_add(2, place.reshape(-1), source).reshape(n, channels, *full)
    for k in range(rank):
        y = y.narrow(2 + k, pads[k], sizes[k])
    return y
