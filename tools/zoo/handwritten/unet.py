"""U-Net: skip connections concatenated after upsampling, by transposed convolution or by Resize."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def _double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
    )  # fmt: skip


class UNet(nn.Module):
    def __init__(self, transposed: bool = True, width: int = 32, depth: int = 4, classes: int = 5) -> None:
        super().__init__()
        sizes = [width * 2**level for level in range(depth)]
        self.down = nn.ModuleList(_double(i, o) for i, o in zip([3, *sizes], sizes, strict=False))
        self.pool = nn.MaxPool2d(2)
        pairs = list(zip(sizes[:0:-1], sizes[-2::-1], strict=True))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(deep, flat, 2, stride=2)
            if transposed
            else nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(deep, flat, 1))
            for deep, flat in pairs
        )
        self.merge = nn.ModuleList(_double(2 * flat, flat) for _, flat in pairs)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, input: Tensor) -> Tensor:
        skips, x = [], input
        for level, stage in enumerate(self.down):
            x = stage(x if level == 0 else self.pool(x))
            skips.append(x)
        for up, merge, skip in zip(self.up, self.merge, skips[-2::-1], strict=True):
            x = merge(torch.cat([skip, up(x)], dim=1))
        return self.head(x)
