"""Audio: 1-D convolutions on the waveform, a keyword spotter on spectrograms, dilated gated convolutions."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class WaveNet1D(nn.Module):
    """M5: strided 1-D convolutions on raw samples, averaged over time."""

    def __init__(self, classes: int = 35) -> None:
        super().__init__()
        sizes = [1, 64, 64, 128, 256]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            kernel, stride = (80, 8) if inputs == 1 else (3, 1)
            layers += [
                nn.Conv1d(inputs, outputs, kernel, stride),
                nn.BatchNorm1d(outputs),
                nn.ReLU(),
                nn.MaxPool1d(4),
            ]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(sizes[-1], classes)

    def forward(self, input: Tensor) -> Tensor:
        return self.head(self.features(input).mean(dim=-1))


class KeywordSpotter(nn.Module):
    """DS-CNN: depthwise separable convolutions, then Flatten with a spatial size left."""

    def __init__(self, width: int = 96, classes: int = 12) -> None:
        super().__init__()

        def block(inputs: int, kernel: tuple[int, int], stride: int, groups: int) -> list[nn.Module]:
            padding = (kernel[0] // 2, kernel[1] // 2)
            convolution = nn.Conv2d(inputs, width, kernel, stride, padding, groups=groups, bias=False)
            return [convolution, nn.BatchNorm2d(width), nn.ReLU()]

        layers = block(1, (9, 3), 2, 1)
        for _ in range(3):
            layers += block(width, (3, 3), 1, width) + block(width, (1, 1), 1, 1)
        self.features = nn.Sequential(*layers, nn.AvgPool2d(5))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(width * 5 * 4, 64), nn.ReLU(), nn.Linear(64, classes))

    def forward(self, input: Tensor) -> Tensor:
        return self.head(self.features(input))


class TemporalNet(nn.Module):
    """Dilated causal convolutions with gates; residual and skip sums run side by side (WaveNet, TCN)."""

    def __init__(self, features: int = 20, width: int = 48, layers: int = 6, outputs: int = 8) -> None:
        super().__init__()
        self.enter = nn.Conv1d(features, width, 1)
        self.dilated = nn.ModuleList(nn.Conv1d(width, 2 * width, 2, dilation=2**i) for i in range(layers))
        self.residual = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in range(layers))
        self.skip = nn.ModuleList(nn.Conv1d(width, 2 * width, 1) for _ in range(layers))
        self.leave = nn.Sequential(nn.ReLU(), nn.Conv1d(2 * width, width, 1), nn.ReLU(), nn.Conv1d(width, outputs, 1))

    def forward(self, input: Tensor) -> Tensor:
        x, total = self.enter(input), torch.zeros(())
        for level, (dilated, residual, skip) in enumerate(zip(self.dilated, self.residual, self.skip, strict=True)):
            value, gate = dilated(nn.functional.pad(x, (2**level, 0))).chunk(2, dim=1)
            gated = torch.tanh(value) * torch.sigmoid(gate)
            total = total + skip(gated)
            x = x + residual(gated)
        return self.leave(total)
