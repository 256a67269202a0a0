"""Super-resolution: residual blocks without normalisation, and pixel shuffle."""

from __future__ import annotations

from torch import Tensor, nn


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.3 * self.second(self.relu(self.first(x)))


class EDSR(nn.Module):
    def __init__(self, width: int = 64, blocks: int = 6) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Sequential(*(_Block(width) for _ in range(blocks)), nn.Conv2d(width, width, 3, padding=1))
        self.up = nn.Sequential(
            nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2),
            nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2),
        )  # fmt: skip
        self.leave = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, input: Tensor) -> Tensor:
        x = self.enter(input)
        return self.leave(self.up(x + self.body(x)))


class ESPCN(nn.Module):
    """Pixel unshuffle in front, pixel shuffle at the end, PReLU between."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(12, width, 5, padding=2), nn.PReLU(width),
            nn.Conv2d(width, width, 3, padding=1), nn.PReLU(width), nn.Conv2d(width, 48, 3, padding=1),
        )  # fmt: skip
        self.shuffle = nn.PixelShuffle(4)

    def forward(self, input: Tensor) -> Tensor:
        return self.shuffle(self.body(input))
