"""Windows over places, as ONNX spells them: pads at both ends, `auto_pad`, dilations. Registers no operator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from onnxprune.recover.step import Step

Pads = list[tuple[int, int]]


def window_pads(step: Step, sizes: Sequence[int], kernel: Sequence[int]) -> Pads:
    """(before, after) per spatial axis for inputs of `sizes`."""
    rank = len(sizes)
    strides, dilations = strides_of(step, rank), dilations_of(step, rank)
    auto = step.attr("auto_pad", "NOTSET")
    if auto == "VALID":
        return [(0, 0)] * rank
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        found = []
        for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
            total = max((-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size, 0)
            small, large = total // 2, total - total // 2
            found.append((small, large) if auto == "SAME_UPPER" else (large, small))
        return found
    pads = step.attr("pads") or [0] * (2 * rank)
    return list(zip(pads[:rank], pads[rank:], strict=True))


def strides_of(step: Step, rank: int) -> list[int]:
    return list(step.attr("strides") or [1] * rank)


def dilations_of(step: Step, rank: int) -> list[int]:
    return list(step.attr("dilations") or [1] * rank)


def is_symmetric(pads: Pads) -> bool:
    return all(before == after for before, after in pads)


def flat(pads: Pads) -> list[int]:
    """As torch's `pad` takes them: the last axis first."""
    return [size for before, after in reversed(pads) for size in (before, after)]


def padded(x: Tensor, pads: Pads, value: float = 0.0) -> Tensor:
    """x with its last axes filled up; x itself where there is nothing to add."""
    if all(pad == (0, 0) for pad in pads):
        return x
    return F.pad(x, flat(pads), value=value)


def windows(x: Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Tensor:
    """All windows of x [N, C, ...] as [N, C, places..., kernel places...], a view."""
    rank = len(kernel)
    for axis in range(rank):
        span = (kernel[axis] - 1) * dilations[axis] + 1
        x = x.unfold(2 + axis, span, strides[axis])
        if dilations[axis] > 1:
            x = x[..., :: dilations[axis]]
    return x


def like_channels(vector: Tensor, x: Tensor) -> Tensor:
    """A vector over x's channels (axis 1), shaped to be broadcast."""
    return torch.reshape(vector, (1, -1, *(1,) * (x.ndim - 2)))
