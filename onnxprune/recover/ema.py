"""An average of the weights over the last steps, which is what is evaluated and written."""

from __future__ import annotations

import torch
from torch import Tensor

from onnxprune.recover.module import OnnxModule


class Average:
    """Exponential moving average by initializer name; the first steps count for more (Tarvainen and Valpola, "Mean
    teachers are better role models", NeurIPS 2017, arXiv:1703.01780). Running statistics are averaged too.
    """

    def __init__(self, module: OnnxModule, decay: float) -> None:
        self.module, self.decay, self.steps = module, decay, 0
        self.values: dict[str, Tensor] = {k: v.clone() for k, v in self._now().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights as they are now into the average."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for key, value in self._now().items():
            self.values[key].mul_(decay).add_(value, alpha=1 - decay)

    def _now(self) -> dict[str, Tensor]:
        return {key: self.module.places[key].get().detach() for key in self.module.originals}
