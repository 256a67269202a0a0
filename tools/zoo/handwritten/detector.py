"""A detector like YOLOv8 and YOLOv5: C2f or CSP blocks, SPPF, a path aggregation neck, a DFL head."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    def __init__(self, width: int, shortcut: bool) -> None:
        super().__init__()
        self.first, self.second = ConvBlock(width, width, 3), ConvBlock(width, width, 3)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x))
        return x + y if self.shortcut else y


class C2f(nn.Module):
    """Splits its channels, and concatenates every intermediate result."""

    def __init__(self, inputs: int, outputs: int, count: int = 1, shortcut: bool = False) -> None:
        super().__init__()
        self.part = outputs // 2
        self.enter = ConvBlock(inputs, 2 * self.part)
        self.leave = ConvBlock((2 + count) * self.part, outputs)
        self.blocks = nn.ModuleList(Bottleneck(self.part, shortcut) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.enter(x).split((self.part, self.part), 1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return self.leave(torch.cat(parts, 1))


class CSP(nn.Module):
    """Two parallel entries, one of them deep, concatenated (YOLOv5's C3)."""

    def __init__(self, inputs: int, outputs: int, count: int = 1, shortcut: bool = False) -> None:
        super().__init__()
        half = outputs // 2
        self.deep, self.flat = ConvBlock(inputs, half), ConvBlock(inputs, half)
        self.blocks = nn.Sequential(*(Bottleneck(half, shortcut) for _ in range(count)))
        self.leave = ConvBlock(2 * half, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(torch.cat([self.blocks(self.deep(x)), self.flat(x)], 1))


class SPPF(nn.Module):
    """The same pooling three times over, all four results concatenated."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.leave = ConvBlock(width, width // 2), ConvBlock(2 * width, width)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.enter(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.leave(torch.cat(parts, 1))


class Head(nn.Module):
    """Classes and box distributions; the boxes are the expectation of a softmax (DFL)."""

    bins = 16

    def __init__(self, widths: list[int], classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.box = nn.ModuleList(
            nn.Sequential(ConvBlock(w, 64, 3), ConvBlock(64, 64, 3), nn.Conv2d(64, 4 * self.bins, 1)) for w in widths
        )
        self.kind = nn.ModuleList(
            nn.Sequential(ConvBlock(w, 80, 3), ConvBlock(80, 80, 3), nn.Conv2d(80, classes, 1)) for w in widths
        )
        self.register_buffer("steps", torch.arange(self.bins, dtype=torch.float32).view(1, self.bins, 1, 1))

    def forward(self, levels: list[Tensor]) -> Tensor:
        found = [
            torch.cat([box(x), kind(x)], 1).flatten(2) for box, kind, x in zip(self.box, self.kind, levels, strict=True)
        ]
        box, kind = torch.cat(found, 2).split((4 * self.bins, self.classes), 1)
        distribution = box.unflatten(1, (4, self.bins)).transpose(2, 1).softmax(1)
        distance = (distribution * self.steps).sum(1)
        return torch.cat([distance, kind.sigmoid()], 1)


class Detector(nn.Module):
    def __init__(self, block: type[C2f] | type[CSP], widths: tuple[int, int, int] = (64, 128, 256)) -> None:
        super().__init__()
        a, b, c = widths
        self.stem = nn.Sequential(ConvBlock(3, a // 4, 3, 2), ConvBlock(a // 4, a // 2, 3, 2))
        self.stage1 = nn.Sequential(block(a // 2, a // 2, 1, True), ConvBlock(a // 2, a, 3, 2), block(a, a, 2, True))
        self.stage2 = nn.Sequential(ConvBlock(a, b, 3, 2), block(b, b, 2, True))
        self.stage3 = nn.Sequential(ConvBlock(b, c, 3, 2), block(c, c, 1, True), SPPF(c))
        self.up = nn.Upsample(scale_factor=2)
        self.top2, self.top1 = block(b + c, b), block(a + b, a)
        self.down1, self.down2 = ConvBlock(a, a, 3, 2), ConvBlock(b, b, 3, 2)
        self.low2, self.low3 = block(a + b, b), block(b + c, c)
        self.head = Head([a, b, c], classes=20)

    def forward(self, input: Tensor) -> Tensor:
        p1 = self.stage1(self.stem(input))
        p2 = self.stage2(p1)
        p3 = self.stage3(p2)
        n2 = self.top2(torch.cat([self.up(p3), p2], 1))
        n1 = self.top1(torch.cat([self.up(n2), p1], 1))
        m2 = self.low2(torch.cat([self.down1(n1), n2], 1))
        m3 = self.low3(torch.cat([self.down2(m2), p3], 1))
        return self.head([n1, m2, m3])
