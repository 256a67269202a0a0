"""Convolutions, forwards and transposed."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from onnxprune.recover.registry import op
from onnxprune.recover.step import Step
from onnxprune.recover.torch_ops.spatial import dilations_of, is_symmetric, padded, strides_of, window_pads

_CONV: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: dict[int, Any] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@op("Conv")
def conv(step: Step, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """X [N, C, ...], W [M, C/group, ...], B [M]."""
    rank = x.ndim - 2
    if rank not in _CONV:
        raise step.refusal(f"torch convolves over 1 to 3 axes, not {rank}")
    pads = window_pads(step, x.shape[2:], step.attr("kernel_shape") or w.shape[2:])
    if is_symmetric(pads):
        padding = [before for before, _ in pads]
    else:
        x, padding = padded(x, pads), [0] * rank
    return _CONV[rank](x, w, b, strides_of(step, rank), padding, dilations_of(step, rank), step.attr("group", 1))


@op("ConvTranspose")
def conv_transpose(step: Step, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """X [N, C, ...], W [C, M/group, ...]. The output in full, then cut by `pads`, which may differ at the two ends."""
    rank = x.ndim - 2
    if rank not in _TRANSPOSED:
        raise step.refusal(f"torch convolves over 1 to 3 axes, not {rank}")
    strides, dilations = strides_of(step, rank), dilations_of(step, rank)
    extra = list(step.attr("output_padding") or [0] * rank)
    full = [
        (size - 1) * stride + (k - 1) * dilation + 1 + more
        for size, stride, k, dilation, more in zip(x.shape[2:], strides, w.shape[2:], dilations, extra, strict=True)
    ]
    pads = _transposed_pads(step, list(x.shape[2:]), strides, full)
    y = _TRANSPOSED[rank](x, w, b, strides, 0, 0, step.attr("group", 1), dilations)
    if any(extra):  # torch wants them smaller than the stride or the dilation
        y = padded(y, [(0, more) for more in extra])
        if b is not None:
            inside = [have - more for have, more in zip(full, extra, strict=True)]
            added = padded(b.new_zeros(1, 1, *inside), [(0, more) for more in extra], 1)
            y = y + added * b.reshape(1, -1, *(1,) * rank)
    for axis, (before, after) in enumerate(pads):
        if before < 0 or after < 0:
            y = padded(y, [(0, 0)] * axis + [(max(-before, 0), max(-after, 0))] + [(0, 0)] * (rank - axis - 1))
        before, after = max(before, 0), max(after, 0)
        if before or after:
            y = y.narrow(2 + axis, before, y.shape[2 + axis] - before - after)
    return y


def _transposed_pads(step: Step, sizes: list[int], strides: list[int], full: list[int]) -> list[tuple[int, int]]:
    """What is cut off at both ends of the full output (ONNX ConvTranspose, `auto_pad` and `output_shape`)."""
    rank, auto = len(sizes), step.attr("auto_pad", "NOTSET")
    wanted = step.attr("output_shape")
    if wanted is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [size * stride for size, stride in zip(sizes, strides, strict=True)]
    if wanted is None:
        pads = step.attr("pads") or [0] * (2 * rank)
        return list(zip(pads[:rank], pads[rank:], strict=True))
    found = []
    for have, want in zip(full, wanted[-rank:], strict=True):
        total = max(have - want, 0)
        half = total // 2
        before, after = (total - half, half) if auto == "SAME_LOWER" else (half, total - half)
        found.append((before, after if have >= want else have - want))
    return found
