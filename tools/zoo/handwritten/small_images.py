"""Small models: CIFAR's ResNet with option-A shortcuts, GroupNorm, a generator, an autoencoder, points."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class _OptionABlock(nn.Module):
    """The shortcut has no weights: it takes every second pixel and pads the new channels with zeros."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.widen = (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.widen:
            x = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.widen, self.widen))
        return torch.relu(x + y)


class CifarResNet(nn.Module):
    def __init__(self, depth: int = 20, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        blocks, inputs = [], 16
        for stage, outputs in enumerate((16, 32, 64)):
            for index in range((depth - 2) // 6):
                blocks.append(_OptionABlock(inputs, outputs, 2 if stage and not index else 1))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(64, classes)

    def forward(self, input: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(input)).mean((2, 3)))


class GroupNormNet(nn.Module):
    """Convolutions under GroupNorm, InstanceNorm and GroupNorm with one group."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1), nn.GroupNorm(8, width), nn.SiLU(),
            nn.Conv2d(width, width, 3, 1, 1), nn.InstanceNorm2d(width, affine=True), nn.LeakyReLU(0.1),
            nn.Conv2d(width, 2 * width, 3, 2, 1), nn.GroupNorm(1, 2 * width), nn.GELU(),
            nn.Conv2d(2 * width, 2 * width, 3, 1, 1, groups=4), nn.GroupNorm(16, 2 * width), nn.Mish(),
        )  # fmt: skip
        self.head = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10))

    def forward(self, input: Tensor) -> Tensor:
        return self.head(self.body(input))


class Generator(nn.Module):
    """DCGAN's generator: a latent vector, a dense layer reshaped to a map, transposed convolutions."""

    def __init__(self, latent: int = 64, width: int = 32) -> None:
        super().__init__()
        self.enter = nn.Linear(latent, 4 * width * 16)
        layers: list[nn.Module] = [nn.Unflatten(1, (4 * width, 4, 4))]
        for inputs, outputs in ((4 * width, 2 * width), (2 * width, width)):
            layers += [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Tanh())

    def forward(self, input: Tensor) -> Tensor:
        return self.body(self.enter(input))


class Autoencoder(nn.Module):
    """A variational autoencoder at inference: map to Flatten to mean, and back by Reshape."""

    def __init__(self, width: int = 32, latent: int = 24) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv2d(1, width, 3, 2, 1), nn.ELU(), nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ELU(),
            nn.Flatten(), nn.Linear(2 * width * 49, latent),
        )  # fmt: skip
        self.decode = nn.Sequential(
            nn.Linear(latent, 2 * width * 49), nn.ELU(), nn.Unflatten(1, (2 * width, 7, 7)),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.ELU(), nn.ConvTranspose2d(width, 1, 4, 2, 1),
        )  # fmt: skip

    def forward(self, input: Tensor) -> Tensor:
        return self.decode(self.encode(input))


class PointNet(nn.Module):
    """A shared layer for every point, the maximum over points, and that maximum beside each point again."""

    def __init__(self, classes: int = 6) -> None:
        super().__init__()

        def shared(*sizes: int) -> nn.Sequential:
            pairs = pairwise(sizes)
            return nn.Sequential(*(nn.Sequential(nn.Conv1d(i, o, 1), nn.BatchNorm1d(o), nn.ReLU()) for i, o in pairs))

        self.local, self.deep = shared(3, 64, 64), shared(64, 128, 256)
        self.label = nn.Sequential(shared(64 + 256, 128, 64), nn.Conv1d(64, classes, 1))

    def forward(self, input: Tensor) -> Tensor:
        local = self.local(input)
        everything = self.deep(local).amax(dim=2, keepdim=True).expand(-1, -1, input.shape[2])
        return self.label(torch.cat([local, everything], dim=1))
