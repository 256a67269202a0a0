"""Sampling at computed places."""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from onnxprune.recover.registry import op
from onnxprune.recover.step import Step, ints

_MODES = {"linear": "bilinear", "cubic": "bicubic"}


@op("GridSample")
def grid_sample(step: Step, x: Tensor, grid: Tensor) -> Tensor:
    mode = step.attr("mode", "linear")
    padding, corners = step.attr("padding_mode", "zeros"), bool(step.attr("align_corners", 0))
    return F.grid_sample(x, grid.to(x.dtype), _MODES.get(mode, mode), padding, corners)


@op("AffineGrid", settings=(1,))
def affine_grid(step: Step, theta: Tensor, size: Tensor) -> Tensor:
    return F.affine_grid(theta, ints(size), bool(step.attr("align_corners", 0)))


@op("RoiAlign")
def roi_align(step: Step, x: Tensor, rois: Tensor, images: Tensor) -> Tensor:
    """X [N, C, H, W], rois [R, 4] as (x1, y1, x2, y2) -> [R, C, h, w]: means or maxima of sampled places."""
    high, wide = step.attr("output_height", 1), step.attr("output_width", 1)
    scale, ratio = step.attr("spatial_scale", 1.0), step.attr("sampling_ratio", 0)
    mode = step.attr("coordinate_transformation_mode", "half_pixel" if step.opset >= 16 else "output_half_pixel")
    shift = 0.5 if mode == "half_pixel" else 0.0
    found = []
    for roi, image in zip(rois.tolist(), images.tolist(), strict=True):
        left, top, right, bottom = (v * scale - shift for v in roi)
        width, height = right - left, bottom - top
        if mode != "half_pixel":
            width, height = max(width, 1.0), max(height, 1.0)
        ys = _sampled(top, height, high, ratio, x)
        xs = _sampled(left, width, wide, ratio, x)
        found.append(_pooled(x[int(image)], ys, xs, high, wide, step.attr("mode", "avg")))
    return torch.stack(found) if found else x.new_zeros(0, x.shape[1], high, wide)


def _sampled(start: float, span: float, count: int, ratio: int, x: Tensor) -> Tensor:
    per_bin = ratio if ratio > 0 else max(math.ceil(span / count), 1)
    places = (torch.arange(count * per_bin, dtype=torch.float64) + 0.5) * (span / count / per_bin) + start
    return places.to(device=x.device, dtype=x.dtype)


def _pooled(image: Tensor, ys: Tensor, xs: Tensor, high: int, wide: int, mode: str) -> Tensor:
    """image [C, H, W]; places outside by more than one count as zero."""
    corners = []
    for places, size in ((ys, image.shape[1]), (xs, image.shape[2])):
        inside = (places >= -1) & (places <= size)
        clamped = places.clamp(0, size - 1)
        low = torch.floor(clamped).to(torch.int64).clamp(max=size - 1)
        up = (low + 1).clamp(max=size - 1)
        far = clamped - low
        corners.append([(low, (1 - far) * inside), (up, far * inside)])
    parts = []
    for (row, wr), (column, wc) in product(corners[0], corners[1]):
        parts.append(image[:, row][:, :, column] * (wr[:, None] * wc[None, :]))
    shape = (image.shape[0], high, len(ys) // high, wide, len(xs) // wide)
    if mode == "max":  # of the four weighted corners, as ONNX Runtime and the reference take it
        return torch.stack(parts).amax(0).reshape(shape).amax((2, 4))
    return sum(parts[1:], parts[0]).reshape(shape).mean((2, 4))
