"""The dense model beside the pruned one: its outputs, kept for samples that come again, and intermediate values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onnxprune.recover.features import Feature
from onnxprune.recover.module import OnnxModule

_KEPT_BYTES = 1 << 29


class Teacher:
    """Runs without gradients, in evaluation mode.

    Outputs of samples go by their numbers, and are computed once where samples are always the same (`repeats`) and no
    intermediate value is asked for, up to half a gigabyte of them.
    """

    def __init__(self, module: OnnxModule, features: Sequence[Feature] = (), repeats: bool = True) -> None:
        self.module = module.eval().requires_grad_(False)
        self.features = list(features)
        self.wanted = [*module.output_names, *(f.name for f in self.features if f.name not in module.output_names)]
        self._keeps = repeats and not self.features
        self._kept: dict[int, dict[str, Tensor]] = {}
        self._left = _KEPT_BYTES

    @torch.no_grad()
    def __call__(self, feeds: dict[str, Any], numbers: np.ndarray | None) -> dict[str, Tensor]:
        """Outputs and intermediate values by name. `numbers` say which samples the feeds are."""
        if not self._keeps or numbers is None:
            return self._run(feeds)
        known = [self._kept.get(int(number)) for number in numbers]
        if all(row is not None for row in known):
            rows = [row for row in known if row is not None]
            device = self.module.device
            return {name: torch.stack([row[name] for row in rows]).to(device) for name in rows[0]}
        found = self._run(feeds)
        for place, number in enumerate(numbers):
            row = {name: value[place].cpu() for name, value in found.items() if value.shape[:1] == (len(numbers),)}
            size = sum(value.nbytes for value in row.values())
            if len(row) == len(found) and size <= self._left and int(number) not in self._kept:
                self._left -= size
                self._kept[int(number)] = {name: value.clone() for name, value in row.items()}
        return found

    def _run(self, feeds: dict[str, Any]) -> dict[str, Tensor]:
        found = self.module.run(feeds, self.wanted)
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}
