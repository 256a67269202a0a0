"""Pooling over windows, over all places, over regions of interest, and back."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from onnxprune.recover.registry import op
from onnxprune.recover.step import Step, ints
from onnxprune.recover.torch_ops.spatial import (
    Pads,
    dilations_of,
    is_symmetric,
    padded,
    strides_of,
    window_pads,
    windows,
)

_MAX: dict[int, Any] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MEAN: dict[int, Any] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _extended(step: Step, x: Tensor, kernel: list[int], pads: Pads) -> Pads:
    """Pads with what `ceil_mode` adds at the end, so that each last window is whole.

    A window that would start in the padding at the end is none (ONNX since opset 22, and torch).
    """
    if not step.attr("ceil_mode", 0):
        return pads
    found = []
    strides, dilations = strides_of(step, len(kernel)), dilations_of(step, len(kernel))
    for size, k, stride, dilation, (before, after) in zip(x.shape[2:], kernel, strides, dilations, pads, strict=True):
        span = (k - 1) * dilation + 1
        count = math.ceil((size + before + after - span) / stride) + 1
        if (count - 1) * stride >= size + before:
            count -= 1
        found.append((before, max(after, (count - 1) * stride + span - size - before)))
    return found


@op("MaxPool")
def max_pool(step: Step, x: Tensor) -> Any:
    """With indices into the flattened tensor, batch and channels included, if these are asked for."""
    kernel = list(step.attrs["kernel_shape"])
    rank = len(kernel)
    pads = _extended(step, x, kernel, window_pads(step, x.shape[2:], kernel))
    strides, dilations = strides_of(step, rank), dilations_of(step, rank)
    small = all(2 * before <= k for (before, _), k in zip(pads, kernel, strict=True))
    if not step.wants(1) and rank in _MAX and is_symmetric(pads) and small and x.is_floating_point():
        return _MAX[rank](x, kernel, strides, [before for before, _ in pads], dilations)
    least = -math.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
    seen = windows(padded(x, pads, least), kernel, strides, dilations)
    flat = seen.reshape(*seen.shape[: 2 + rank], -1)
    if not step.wants(1):
        return flat.amax(-1)
    return flat.amax(-1), _places(step, x, kernel, pads, flat.argmax(-1))


def _places(step: Step, x: Tensor, kernel: list[int], pads: Pads, inside: Tensor) -> Tensor:
    """Places in x, flattened, of the elements that are `inside` [N, C, ...] their windows."""
    rank, device = len(kernel), x.device
    strides, dilations = strides_of(step, rank), dilations_of(step, rank)
    along = []
    for axis in reversed(range(rank)):
        start = torch.arange(inside.shape[2 + axis], device=device) * strides[axis] - pads[axis][0]
        offset = inside % kernel[axis] * dilations[axis]
        along.append(start.reshape(-1, *(1,) * (rank - 1 - axis)) + offset)
        inside = inside // kernel[axis]
    sizes = list(x.shape[2:])
    order = range(rank)
    if step.attr("storage_order", 0):  # columns first
        order = range(rank - 1, -1, -1)
    place = torch.zeros_like(inside)
    for axis in order:
        place = place * sizes[axis] + along[rank - 1 - axis]
    image = torch.arange(x.shape[0] * x.shape[1], device=device).reshape(x.shape[0], x.shape[1], *(1,) * rank)
    return image * math.prod(sizes) + place


@op("AveragePool")
def average_pool(step: Step, x: Tensor) -> Tensor:
    """Padding counts only with `count_include_pad`; what `ceil_mode` adds never does."""
    kernel = list(step.attrs["kernel_shape"])
    rank = len(kernel)
    stated = window_pads(step, x.shape[2:], kernel)
    pads = _extended(step, x, kernel, stated)
    strides, dilations = strides_of(step, rank), dilations_of(step, rank)
    include = bool(step.attr("count_include_pad", 0))
    if rank in _MEAN and pads == stated and is_symmetric(pads) and set(dilations) == {1}:
        halves = [before for before, _ in pads]
        if all(2 * half <= k for half, k in zip(halves, kernel, strict=True)):
            return _MEAN[rank](x, kernel, strides, halves, False, include)
    total = windows(padded(x, pads), kernel, strides, dilations)
    counted = x.new_ones(1, 1, *x.shape[2:])
    if include:
        counted = padded(counted, stated, 1.0)
        pads = [(b2 - b1, a2 - a1) for (b1, a1), (b2, a2) in zip(stated, pads, strict=True)]
    count = windows(padded(counted, pads), kernel, strides, dilations)
    places = list(range(2 + rank, 2 + 2 * rank))
    return total.sum(places) / count.sum(places)


@op("LpPool")
def lp_pool(step: Step, x: Tensor) -> Tensor:
    kernel = list(step.attrs["kernel_shape"])
    rank, p = len(kernel), step.attr("p", 2)
    pads = _extended(step, x, kernel, window_pads(step, x.shape[2:], kernel))
    seen = windows(padded(x.abs() ** p, pads), kernel, strides_of(step, rank), dilations_of(step, rank))
    return seen.sum(list(range(2 + rank, 2 + 2 * rank))) ** (1 / p)


@op("GlobalAveragePool")
def global_average_pool(step: Step, x: Tensor) -> Tensor:
    return x.mean(list(range(2, x.ndim)), keepdim=True)


@op("GlobalMaxPool")
def global_max_pool(step: Step, x: Tensor) -> Tensor:
    return x.amax(list(range(2, x.ndim)), keepdim=True)


@op("GlobalLpPool")
def global_lp_pool(step: Step, x: Tensor) -> Tensor:
    p = step.attr("p", 2)
    return (x.abs() ** p).sum(list(range(2, x.ndim)), keepdim=True) ** (1 / p)


@op("MaxUnpool", settings=(2,))
def max_unpool(step: Step, x: Tensor, indices: Tensor, shape: Tensor | None = None) -> Tensor:
    """Indices count over a tensor of the size that the window gives, also where `shape` asks for a larger one."""
    kernel = step.attrs["kernel_shape"]
    rank = len(kernel)
    strides, pads = strides_of(step, rank), step.attr("pads") or [0] * (2 * rank)
    sizes = [(x.shape[2 + k] - 1) * strides[k] - pads[k] - pads[k + rank] + kernel[k] for k in range(rank)]
    y = x.new_zeros(x.shape[0] * x.shape[1] * math.prod(sizes)).scatter(0, indices.reshape(-1), x.reshape(-1))
    y = y.reshape(*x.shape[:2], *sizes)
    if shape is None:
        return y
    return padded(y, [(0, want - have) for want, have in zip(ints(shape)[2:], sizes, strict=True)])


@op("MaxRoiPool")
def max_roi_pool(step: Step, x: Tensor, rois: Tensor) -> Tensor:
    """X [N, C, H, W], rois [R, 5] of (image, x1, y1, x2, y2) -> [R, C, h, w]."""
    height, width = step.attrs["pooled_shape"]
    scale = step.attr("spatial_scale", 1.0)
    found = []
    for roi in rois.tolist():
        x1, y1, x2, y2 = (math.floor(v * scale + 0.5) for v in roi[1:])
        high, wide = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
        image = x[int(roi[0])]
        rows = []
        for i in range(height):
            top, bottom = _bin(y1, high, height, i, image.shape[1])
            for j in range(width):
                left, right = _bin(x1, wide, width, j, image.shape[2])
                empty = bottom <= top or right <= left
                rows.append(image.new_zeros(image.shape[0]) if empty else image[:, top:bottom, left:right].amax((1, 2)))
        found.append(torch.stack(rows, -1).reshape(-1, height, width))
    return torch.stack(found) if found else x.new_zeros(0, x.shape[1], height, width)


def _bin(start: int, span: int, count: int, k: int, size: int) -> tuple[int, int]:
    first, last = math.floor(k * span / count) + start, math.ceil((k + 1) * span / count) + start
    return min(max(first, 0), size), min(max(last, 0), size)
