"""Time of one training step on the CPU: the imported graph beside the same architecture written by hand in torch.

    python tools/bench_step.py                # ResNet-50 (torchvision) and BERT-base (transformers)

Both are exported by torch.onnx, imported, and trained with SGD on the same inputs, in turn, one thread; the medians of
processor time per step are compared.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from onnxprune.recover import to_torch


def resnet50(batch: int) -> tuple[nn.Module, tuple[Any, ...]]:
    from zoo.torchvision_shim import import_torchvision

    return import_torchvision().models.resnet50(weights=None), (torch.randn(batch, 3, 224, 224),)


def bert(batch: int, length: int = 128) -> tuple[nn.Module, tuple[Any, ...]]:
    from transformers import BertConfig, BertForSequenceClassification

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = BertForSequenceClassification(BertConfig())

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.model(input_ids=ids, attention_mask=mask).logits

    ids = torch.randint(0, 30000, (batch, length))
    return Logits(), (ids, torch.ones_like(ids))


ARCHITECTURES: dict[str, Callable[[int], tuple[nn.Module, tuple[Any, ...]]]] = {"resnet50": resnet50, "bert": bert}


def export(module: nn.Module, inputs: tuple[Any, ...], path: Path, dynamo: bool) -> None:
    keep = {} if dynamo else {"training": torch.onnx.TrainingMode.TRAINING, "do_constant_folding": False}
    torch.onnx.export(module, inputs, str(path), dynamo=dynamo, opset_version=18, **keep)


def steps_of(module: nn.Module, inputs: tuple[Any, ...]) -> Callable[[], None]:
    module.train()
    optimiser = torch.optim.SGD(module.parameters(), 1e-4)

    def step() -> None:
        optimiser.zero_grad()
        module(*inputs).float().square().mean().backward()
        optimiser.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=ARCHITECTURES)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=7)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    for name, make in ARCHITECTURES.items():
        if given.only in (None, name):
            compare(name, *make(given.batch), given.steps)


def compare(name: str, module: nn.Module, inputs: tuple[Any, ...], count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export(module.train(), inputs, path, dynamo=False)
        imported = to_torch(path)
    steps = {"by hand": steps_of(module, inputs), "imported": steps_of(imported, inputs)}
    seconds: dict[str, list[float]] = {kind: [] for kind in steps}
    for _ in range(count):
        for kind, step in steps.items():
            started = time.process_time()
            step()
            seconds[kind].append(time.process_time() - started)
    hand, ours = (float(np.median(seconds[kind][1:])) for kind in steps)
    print(f"{name}: by hand {hand:.3f} s, imported {ours:.3f} s, {ours / hand:.2f} times", flush=True)


if __name__ == "__main__":
    main()
