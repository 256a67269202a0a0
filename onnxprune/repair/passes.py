"""What one pass of data through both models is for: the names of these, and which batches are held back."""

from __future__ import annotations

from dataclasses import dataclass, field

from onnxprune.edit.prediction import Prediction
from onnxprune.graph.view import GraphView
from onnxprune.runtime.data import Batch

DENSE, PRUNED = "dense", "pruned"
_HELD_BACK = 8  # one batch of so many


@dataclass(frozen=True)
class Pruned:
    """The pruned model: its view, what the edit predicts, and what took the place of values that went with blocks."""

    view: GraphView
    prediction: Prediction
    replaced: dict[str, str] = field(default_factory=dict)

    def called(self, name: str) -> str:
        """The pruned model's name of a value of the dense one."""
        while name not in self.view.producer and name in self.replaced:
            name = self.replaced[name]
        return name


def is_held_back(batch: Batch, size: int) -> bool:
    """Whether a batch of data that comes in batches of `size` is one to judge by, not to fit to."""
    return batch.first // max(size, 1) % _HELD_BACK == 1
