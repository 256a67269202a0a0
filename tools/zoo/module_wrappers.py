"""Modules that give a library's model a plain signature: tensors in, tensors out."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Named(nn.Module):
    """Calls a transformers model by argument name and returns the outputs asked for."""

    def __init__(self, model: nn.Module, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.inputs, self.outputs = inputs, outputs

    def forward(self, *tensors: Tensor) -> Any:
        answer = self.model(**dict(zip(self.inputs, tensors, strict=True)), return_dict=True)
        picked = tuple(answer[name] for name in self.outputs)
        return picked[0] if len(picked) == 1 else picked


class Only(nn.Module):
    """A model that answers with a dict, reduced to one entry: bare, or in a dict under another name."""

    def __init__(self, model: nn.Module, key: str, rename: str | None = None) -> None:
        super().__init__()
        self.model, self.key, self.rename = model, key, rename

    def forward(self, input: Tensor) -> Any:
        answer = self.model(input)[self.key]
        return answer if self.rename is None else {self.rename: answer}


class DetectionHeads(nn.Module):
    """A torchvision detector up to its heads: what comes after (decoding, NMS) has no weights."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head

    def forward(self, input: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.head(list(self.backbone(input).values())).values())
