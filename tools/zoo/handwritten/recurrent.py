"""Recurrent models: classifiers of token sequences, a tagger, and a text reader with convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RecurrentClassifier(nn.Module):
    """Embedding, stacked recurrent layers, the last step to a dense head."""

    def __init__(self, cell: str = "LSTM", hidden: int = 128, layers: int = 2, bidirectional: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1000, 96)
        self.recurrent = getattr(nn, cell)(96, hidden, layers, batch_first=True, bidirectional=bidirectional)
        width = hidden * (2 if bidirectional else 1)
        self.head = nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, input_ids: Tensor) -> Tensor:
        states, _ = self.recurrent(self.embedding(input_ids))
        return self.head(states[:, -1])


class Tagger(nn.Module):
    """A label for each step: dense layers around a bidirectional GRU, with a residual connection."""

    def __init__(self, features: int = 40, width: int = 128) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Linear(features, width), nn.LayerNorm(width), nn.ReLU())
        self.recurrent = nn.GRU(width, width // 2, batch_first=True, bidirectional=True)
        self.leave = nn.Linear(width, 12)

    def forward(self, input: Tensor) -> Tensor:
        x = self.enter(input)
        return self.leave(x + self.recurrent(x)[0])


class Reader(nn.Module):
    """CRNN: convolutions shrink the height to one, an LSTM reads along the width."""

    def __init__(self, symbols: int = 37) -> None:
        super().__init__()
        sizes, pools = [1, 32, 64, 128, 128], [(2, 2), (2, 2), (4, 1), (2, 1)]
        blocks: list[nn.Module] = []
        for inputs, outputs, pool in zip(sizes, sizes[1:], pools, strict=False):
            blocks += [
                nn.Conv2d(inputs, outputs, 3, padding=1),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
                nn.MaxPool2d(pool),
            ]
        self.convolutions = nn.Sequential(*blocks)
        self.recurrent = nn.LSTM(128, 96, bidirectional=True)
        self.head = nn.Linear(192, symbols)

    def forward(self, input: Tensor) -> Tensor:
        columns = self.convolutions(input).squeeze(2).permute(2, 0, 1)
        return torch.log_softmax(self.head(self.recurrent(columns)[0]), dim=2)
