"""Resizing: one axis after the other, each a gather with weights (ONNX Resize)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from onnxprune.recover.registry import op
from onnxprune.recover.step import Step, floats, ints


@op("Upsample", settings=(1,))
def upsample(step: Step, x: Tensor, scales: Tensor | None = None) -> Tensor:
    factors = floats(scales) if scales is not None else list(step.attrs["scales"])
    mode = step.attr("mode", "nearest")
    for axis, factor in enumerate(factors):
        x = _along(x, axis, int(x.shape[axis] * factor), factor, "linear" if "linear" in mode else "nearest",
                   "asymmetric", "floor", -0.75, False, False, None)  # fmt: skip
    return x


@op("Resize", settings=(1, 2, 3))
def resize(
    step: Step, x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None
) -> Tensor:
    """Modes nearest, linear and cubic, all coordinate transformations, antialiasing, regions of interest."""
    if step.opset < 11:
        roi, scales = None, roi
    axes = [axis % x.ndim for axis in step.attr("axes") or range(x.ndim)]
    factors = floats(scales)
    wanted = ints(sizes)
    if wanted:
        factors = [want / x.shape[axis] for want, axis in zip(wanted, axes, strict=True)]
        policy = step.attr("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            factor = (min if policy == "not_larger" else max)(factors)
            factors = [factor] * len(axes)
            wanted = [math.floor(x.shape[axis] * factor + 0.5) for axis in axes]
    else:
        wanted = [math.floor(x.shape[axis] * f) for axis, f in zip(axes, factors, strict=True)]
    region = floats(roi) if roi is not None and roi.numel() else []
    default = "half_pixel" if step.opset >= 11 else "asymmetric"
    coordinates = step.attr("coordinate_transformation_mode", default)
    nearest = step.attr("nearest_mode", "round_prefer_floor" if step.opset >= 11 else "floor")
    outside = None
    for k, axis in enumerate(axes):
        if wanted[k] == x.shape[axis] and factors[k] == 1 and coordinates != "tf_crop_and_resize":
            continue
        span = (region[k], region[k + len(axes)]) if region else None
        if coordinates == "tf_crop_and_resize" and span is not None:
            place = _places(x, axis, wanted[k], factors[k], coordinates, span)
            beyond = (place < 0) | (place > x.shape[axis] - 1)
            beyond = beyond.reshape(-1, *(1,) * (x.ndim - 1 - axis))
            outside = beyond if outside is None else outside | beyond
        x = _along(
            x, axis, wanted[k], factors[k], step.attr("mode", "nearest"), coordinates, nearest,
            step.attr("cubic_coeff_a", -0.75), bool(step.attr("exclude_outside", 0)),
            bool(step.attr("antialias", 0)), span,
        )  # fmt: skip
    if outside is not None:
        x = torch.where(outside, torch.full_like(x, step.attr("extrapolation_value", 0.0)), x)
    return x


def _places(x: Tensor, axis: int, count: int, factor: float, mode: str, span: tuple[float, float] | None) -> Tensor:
    """Where each output place lies on the input's axis, in float64 as runtimes round least."""
    size = x.shape[axis]
    out = torch.arange(count, dtype=torch.float64)
    if mode == "align_corners":
        return out * ((size - 1) / (count - 1)) if count > 1 else torch.zeros_like(out)
    if mode == "asymmetric":
        return out / factor
    if mode == "tf_crop_and_resize" and span is not None:
        start, end = span
        if count > 1:
            return start * (size - 1) + out * (end - start) * (size - 1) / (count - 1)
        return torch.full_like(out, 0.5 * (start + end) * (size - 1))
    if mode == "pytorch_half_pixel" and count == 1:
        return torch.full_like(out, -0.5)
    if mode == "tf_half_pixel_for_nn":
        return (out + 0.5) / factor
    if mode == "half_pixel_symmetric":
        adjustment = count / (factor * size)
        centre = size / 2
        return centre * (1 - adjustment) + (out + 0.5) / factor - 0.5
    return (out + 0.5) / factor - 0.5


def _along(
    x: Tensor, axis: int, count: int, factor: float, mode: str, coordinates: str, nearest: str, a: float,
    exclude: bool, antialias: bool, span: tuple[float, float] | None,
) -> Tensor:  # fmt: skip
    size = x.shape[axis]
    if mode == "nearest" and size == count and factor == 1 and coordinates != "tf_crop_and_resize":
        return x
    place = _places(x, axis, count, factor, coordinates, span)
    if mode == "nearest":
        picked = {
            "floor": torch.floor,
            "ceil": torch.ceil,
            "round_prefer_floor": lambda p: torch.ceil(p - 0.5),
            "round_prefer_ceil": lambda p: torch.floor(p + 0.5),
        }[nearest](place)
        return x.index_select(axis, picked.to(torch.int64).clamp(0, size - 1).to(x.device))
    scale = min(factor, 1.0) if antialias else 1.0
    reach = (1 if mode == "linear" else 2) / scale
    first = torch.ceil(place - reach) if antialias else torch.floor(place) - (0 if mode == "linear" else 1)
    taps = int(2 * math.ceil(reach)) + 1 if antialias else (2 if mode == "linear" else 4)
    index = first.unsqueeze(0) + torch.arange(taps, dtype=torch.float64).unsqueeze(1)
    weight = _kernel(mode, (index - place.unsqueeze(0)) * scale, a)
    if exclude:
        weight = torch.where((index < 0) | (index >= size), torch.zeros_like(weight), weight)
    if exclude or antialias:
        weight = weight / weight.sum(0, keepdim=True)
    source = index.to(torch.int64).clamp(0, size - 1).to(x.device)
    weight = weight.to(device=x.device, dtype=x.dtype if x.is_floating_point() else torch.float32)
    shape = (-1, *(1,) * (x.ndim - 1 - axis))
    y = x.index_select(axis, source[0]) * weight[0].reshape(shape)
    for k in range(1, taps):
        y = y + x.index_select(axis, source[k]) * weight[k].reshape(shape)
    return y if x.is_floating_point() else torch.round(y).to(x.dtype)


def _kernel(mode: str, distance: Tensor, a: float) -> Tensor:
    """The weight of an input place at a distance: a triangle, or Keys' cubic with coefficient `a`."""
    d = distance.abs()
    if mode == "linear":
        return torch.clamp(1 - d, min=0)
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return torch.where(d <= 1, near, torch.where(d < 2, far, torch.zeros_like(d)))
