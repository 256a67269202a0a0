"""Fourier transforms; the last axis of a complex tensor holds real and imaginary part."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from onnxprune.recover.registry import op
from onnxprune.recover.step import Step, ints


@op("DFT", settings=(1, 2))
def dft(step: Step, x: Tensor, length: Tensor | None = None, axis: Tensor | None = None) -> Tensor:
    where = ints(axis)[0] if axis is not None else step.attr("axis", 1 if step.opset < 20 else -2)
    where = where % x.ndim
    size = ints(length)[0] if length is not None else None
    inverse, onesided = step.attr("inverse", 0), step.attr("onesided", 0)
    value = x[..., 0] if x.shape[-1] == 1 else torch.view_as_complex(x.contiguous())
    if inverse and onesided:
        return torch.fft.irfft(value, size, where).unsqueeze(-1)
    y = torch.fft.ifft(value, size, where) if inverse else torch.fft.fft(value, size, where)
    if onesided:
        y = y.narrow(where, 0, y.shape[where] // 2 + 1)
    return torch.view_as_real(y)


@op("STFT", settings=(1, 3))
def stft(
    step: Step, signal: Tensor, frame_step: Tensor, window: Tensor | None = None, frame_length: Tensor | None = None
) -> Tensor:
    """signal [N, T, 1 or 2] -> [N, frames, bins, 2]."""
    hop = ints(frame_step)[0]
    size = ints(frame_length)[0] if frame_length is not None else int(window.shape[0]) if window is not None else 0
    value = signal[..., 0] if signal.shape[-1] == 1 else torch.view_as_complex(signal.contiguous())
    frames = value.unfold(1, size, hop)
    if window is not None:
        frames = frames * F.pad(window, (0, size - window.shape[0]))
    y = torch.fft.fft(frames, dim=-1)
    if step.attr("onesided", 1):
        y = y[..., : size // 2 + 1]
    return torch.view_as_real(y)
