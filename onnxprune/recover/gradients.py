"""Gradients of the loss for importance criteria, as plain data (runtime/gradients.py)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from onnxprune.analyse import Source
from onnxprune.errors import SettingError
from onnxprune.graph.io import load
from onnxprune.graph.view import GraphView
from onnxprune.recover.losses import CrossEntropy, Loss, as_labels, ending_of
from onnxprune.recover.module import OnnxModule, to_torch
from onnxprune.runtime.data import Data
from onnxprune.runtime.gradients import Gradients
from onnxprune.runtime.stream import Progress

_CLASS_RANK = 2


def gradients_of(
    model: Source, data: Data, *, loss: Loss | None = None, batch: int = 8, seed: int = 0,
    progress: Progress | None = None,
) -> Gradients:  # fmt: skip
    """One pass over the data, without a step taken.

    `loss` is of outputs and labels (losses.py), cross-entropy of the first output unless given. Without labels classes
    are drawn, with `seed`, from what the model itself predicts, which is what the Fisher matrix is defined by; an
    output that is no scores of classes counts by its square. Gradients are those of batches' means: the smaller the
    batch, the nearer to single samples'.

    Raises SettingError for labels that are no classes and data without samples.
    """
    loaded = load(model)
    module = to_torch(loaded)
    first = module.output_names[0]
    ends = ending_of(GraphView(loaded), first)
    labelled = loss or CrossEntropy(first, ends)
    generator = torch.Generator().manual_seed(seed)
    sums = _Sums(module)
    seen = 0
    for item in data.batches(batch):
        outputs = module.run(item.feeds, module.output_names)
        labels = None if data.labels is None else data.labels[item.first : item.first + item.size]
        if labels is not None:
            term = labelled(outputs, as_labels(labels, module.device))
        else:
            term = _own(outputs[first], ends, labelled, generator)
        module.zero_grad()
        term.backward()
        sums.add()
        seen += item.size
        if progress is not None:
            progress(seen, data.samples)
    if not seen:
        raise SettingError(f"{data.origin}: no batch could be made of it", remedy="give more samples")
    told = {"batch": batch, "labels": data.labels is not None}
    return Gradients(seen, data.origin, data.sha256, told, sums.mean(sums.taylor), sums.mean(sums.fisher))


def _own(output: Tensor, ends: str, loss: Any, generator: torch.Generator) -> Tensor:
    """The loss under classes that the model's own prediction makes likely."""
    if output.ndim != _CLASS_RANK or output.shape[1] < 2 or ends == "Sigmoid":
        return output.float().square().mean()
    shares = output.detach() if ends == "Softmax" else torch.softmax(output.detach().float(), 1)
    drawn = torch.multinomial(shares.cpu(), 1, generator=generator).reshape(-1)
    found: Tensor = loss({loss.output: output} if isinstance(loss, CrossEntropy) else {"": output}, drawn)
    return found


class _Sums:
    """Running sums by weight and axis."""

    def __init__(self, module: OnnxModule) -> None:
        self.module, self.batches = module, 0
        self.taylor: dict[str, dict[int, np.ndarray]] = {}
        self.fisher: dict[str, dict[int, np.ndarray]] = {}

    def add(self) -> None:
        """Take in the gradients that are there."""
        self.batches += 1
        for key in self.module.weights:
            weight = self.module.places[key].get()
            if weight.grad is None:
                continue
            product = (weight.grad * weight.detach()).double()
            square = product.square()
            for axis in range(product.ndim):
                others = [a for a in range(product.ndim) if a != axis]
                total = product.sum(others) if others else product
                _into(self.taylor, key, axis, total.square())
                _into(self.fisher, key, axis, square.sum(others) if others else square)

    def mean(self, sums: dict[str, dict[int, np.ndarray]]) -> dict[str, dict[int, np.ndarray]]:
        return {key: {axis: total / self.batches for axis, total in axes.items()} for key, axes in sums.items()}


def _into(sums: dict[str, dict[int, np.ndarray]], key: str, axis: int, value: Tensor) -> None:
    axes = sums.setdefault(key, {})
    array = value.cpu().numpy()
    axes[axis] = axes[axis] + array if axis in axes else array
