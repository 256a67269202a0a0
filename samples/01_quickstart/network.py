"""The sample's network: a small residual CNN with the couplings that make structured pruning interesting.

Residual sums tie the widths of all convolutions that feed them; a depthwise convolution and a
squeeze-and-excite gate tie the expanded width of the mobile block; global pooling carries the last width into
the classifier.
"""

import torch
from torch import Tensor, nn


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution that keeps the image's size (divided by its stride), and its BatchNorm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 projection where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv_bn(inputs, outputs, stride=stride)
        self.conv2 = conv_bn(outputs, outputs)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else conv_bn(inputs, outputs, kernel=1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv2(torch.relu(self.conv1(x))) + self.shortcut(x))


class SqueezeExcite(nn.Module):
    """Each channel is scaled by a gate computed from the mean of every channel."""

    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(width, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.nn.functional.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.expand(torch.relu(self.reduce(gate))))


class MobileBlock(nn.Module):
    """An inverted residual: 1x1 expansion, depthwise 3x3, squeeze-and-excite, 1x1 projection, shortcut."""

    def __init__(self, width: int, expanded: int, squeezed: int) -> None:
        super().__init__()
        self.expand = conv_bn(width, expanded, kernel=1)
        self.depthwise = conv_bn(expanded, expanded, groups=expanded)
        self.excite = SqueezeExcite(expanded, squeezed)
        self.project = conv_bn(expanded, width, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.depthwise(torch.relu(self.expand(x))))
        return x + self.project(self.excite(y))


class DigitsNet(nn.Module):
    """8x8 grey images to ten logits; about 110 thousand parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(1, 32)
        self.stage1 = ResidualBlock(32, 32)
        self.stage2 = ResidualBlock(32, 64, stride=2)
        self.stage3 = MobileBlock(64, 128, squeezed=32)
        self.head = conv_bn(64, 128, kernel=1)
        self.classifier = nn.Linear(128, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.relu(self.stem(image))
        x = torch.relu(self.head(self.stage3(self.stage2(self.stage1(x)))))
        return self.classifier(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))
