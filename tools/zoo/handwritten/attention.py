"""Attention spelled as the libraries do not: torch's own layers, einsum and soft experts; tabular data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class TorchTransformer(nn.Module):
    """nn.TransformerEncoder and nn.TransformerDecoder: packed in_proj weights, cross attention."""

    def __init__(self, width: int = 128, heads: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1000, width)
        options: dict[str, Any] = {"batch_first": True, "activation": "gelu", "dropout": 0.0}
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(width, heads, 512, norm_first=True, **options),
            2,
            enable_nested_tensor=False,
        )
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(width, heads, 256, **options), 1)
        self.queries = nn.Parameter(torch.randn(1, 5, width))
        self.head = nn.Linear(width, 9)

    def forward(self, input_ids: Tensor) -> Tensor:
        memory = self.encoder(self.embedding(input_ids))
        return self.head(self.decoder(self.queries.expand(memory.shape[0], -1, -1), memory))


class EinsumTransformer(nn.Module):
    """Projections and scores by einsum, grouped queries, a gated FFN in one matrix, experts mixed softly."""

    def __init__(self, width: int = 96, heads: int = 6, shared: int = 2, size: int = 16, experts: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1000, width)
        self.query = nn.Parameter(torch.randn(width, shared, heads // shared, size) * width**-0.5)
        self.key = nn.Parameter(torch.randn(width, shared, size) * width**-0.5)
        self.value = nn.Parameter(torch.randn(width, shared, size) * width**-0.5)
        self.out = nn.Parameter(torch.randn(shared, heads // shared, size, width) * (heads * size) ** -0.5)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.gate = nn.Linear(width, experts)
        self.enter = nn.Parameter(torch.randn(experts, width, 2 * 128) * width**-0.5)
        self.leave = nn.Parameter(torch.randn(experts, 128, width) * 128**-0.5)
        self.head = nn.Linear(width, 1000)
        self.scale = size**-0.5

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embedding(input_ids)
        y = self.norm1(x)
        query = torch.einsum("btw,wgns->bgnts", y, self.query)
        key, value = torch.einsum("btw,wgs->bgts", y, self.key), torch.einsum("btw,wgs->bgts", y, self.value)
        scores = torch.einsum("bgnts,bgus->bgntu", query, key) * self.scale
        mixed = torch.einsum("bgntu,bgus->bgnts", scores.softmax(-1), value)
        x = x + torch.einsum("bgnts,gnsw->btw", mixed, self.out)
        y = self.norm2(x)
        value, gate = torch.einsum("btw,ewf->btef", y, self.enter).chunk(2, dim=-1)
        each = torch.einsum("btef,efw->btew", value * nn.functional.silu(gate), self.leave)
        x = x + torch.einsum("bte,btew->btw", self.gate(y).softmax(-1), each)
        return self.head(x)


class TabularNet(nn.Module):
    """Categories by embedding beside numbers: slices of the input, a cross layer, two heads."""

    def __init__(self, hidden: int = 128) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(50, 12) for _ in range(3))
        self.numbers = nn.Sequential(nn.Linear(10, 28), nn.ReLU())
        self.cross = nn.Linear(64, 64)
        self.body = nn.Sequential(nn.Linear(64, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, hidden))
        self.norm = nn.LayerNorm(hidden)
        self.click, self.value = nn.Linear(hidden, 2), nn.Linear(hidden, 1)

    def forward(self, categories: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        parts = [table(categories[:, i]) for i, table in enumerate(self.tables)]
        x = torch.cat([*parts, self.numbers(numbers)], dim=1)
        y = self.norm(self.body(x * self.cross(x) + x))
        return self.click(y), self.value(y)
