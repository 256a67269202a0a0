"""Padding."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from onnxprune.recover.registry import op
from onnxprune.recover.step import Step, floats, ints


@op("Pad", settings=(1, 2, 3))
def pad(
    step: Step, x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    """Negative pads cut off. Modes constant, edge, reflect and wrap."""
    sizes = ints(pads) if pads is not None else list(step.attr("pads") or step.attr("paddings"))
    chosen = [axis % x.ndim for axis in ints(axes)] if axes is not None else list(range(x.ndim))
    before = {axis: sizes[k] for k, axis in enumerate(chosen)}
    after = {axis: sizes[k + len(chosen)] for k, axis in enumerate(chosen)}
    mode = step.attr("mode", "constant")
    if mode == "constant":
        fill = floats(value)[0] if value is not None and value.numel() else step.attr("value", 0.0)
        flat = [s for axis in reversed(range(x.ndim)) for s in (before.get(axis, 0), after.get(axis, 0))]
        return F.pad(x, flat, value=bool(fill) if x.dtype == torch.bool else fill)
    for axis in chosen:
        x = _indexed(x, axis, before[axis], after[axis], mode)
    return x


def _indexed(x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    size = x.shape[axis]
    if not before and not after:
        return x
    place = torch.arange(-before, size + after, device=x.device)
    if mode == "edge":
        place = place.clamp(0, size - 1)
    elif mode == "wrap":
        place = place % size
    elif size == 1:
        place = torch.zeros_like(place)
    else:
        period = 2 * (size - 1)
        place = place % period
        place = torch.where(place >= size, period - place, place)
    return x.index_select(axis, place)


@op("CenterCropPad", settings=(1,))
def center_crop_pad(step: Step, x: Tensor, shape: Tensor) -> Tensor:
    """Cut or filled up with zeros to a size, the middle staying in the middle; the odd one goes to the end."""
    axes = [axis % x.ndim for axis in step.attr("axes") or range(x.ndim)]
    for axis, want in zip(axes, ints(shape), strict=True):
        have = x.shape[axis]
        if want < have:
            x = x.narrow(axis, (have - want) // 2, want)
        elif want > have:
            first = (want - have) // 2
            flat = [0, 0] * (x.ndim - 1 - axis) + [first, want - have - first]
            x = F.pad(x, flat)
    return x
