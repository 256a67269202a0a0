"""What one pass of data through both models is for: the names of these, and which batches are held back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from onnxprune.edit.prediction import Prediction
from onnxprune.edit.stored import put_array
from onnxprune.graph.view import GraphView
from onnxprune.repair.places import BIAS_INPUT, Bias, Place
from onnxprune.runtime.consumers import Consumer
from onnxprune.runtime.data import Batch, Data

DENSE, PRUNED = "dense", "pruned"
LARGEST_BATCH = 64
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

    def consumer(self, consumer: Consumer) -> Consumer:
        """The consumer as it is in the pruned model."""
        source = consumer.source
        size = self.prediction.length((source.tensor, -1, -1), source.axis, source.size)
        groups = consumer.groups
        if groups > 1 and consumer.output is not None:
            groups = int(self.view.producer[consumer.output[0]].attrs.get("group", 1))
        return replace(consumer, source=replace(source, tensor=self.called(source.tensor), size=size), groups=groups)

    def bias(self, place: Place, bias: Bias) -> str:
        """The pruned model's name of a place's bias: uses of a shared vector may have been cut into several."""
        node = self.view.producer[place.consumer.output[0]] if place.consumer.output else None
        return bias.name if bias.own or node is None else self.view.identity_source(node.inputs[BIAS_INPUT])

    def weights(self, place: Place) -> tuple[np.ndarray, np.ndarray]:
        """The place's matrix [groups, D, K] and bias [groups, K] as they are now, all factors in them (float64)."""
        consumer = self.consumer(place.consumer)
        matrix = consumer.matrix(self._stored(place.weight).astype(np.float64)) * consumer.gain
        bias = np.zeros((len(matrix), matrix.shape[2]))
        if place.bias is not None:
            known = self._stored(self.bias(place, place.bias)).astype(np.float64)
            bias = known.reshape(bias.shape) * place.bias.factor
        return matrix, bias

    def put(self, place: Place, matrix: np.ndarray, bias: np.ndarray) -> None:
        """Other weights for it, in the types that are stored; the bias where it may change."""
        consumer = self.consumer(place.consumer)
        put_array(self.view, place.weight, consumer.from_matrix(matrix / consumer.gain, self._stored(place.weight)))
        if place.free_bias is not None:
            old = self._stored(place.free_bias.name)
            fresh = (bias / place.free_bias.factor).reshape(old.shape).astype(old.dtype)
            put_array(self.view, place.free_bias.name, fresh)

    def _stored(self, name: str) -> np.ndarray:
        return self.view.model.array(self.view.constants[name])

    def taken(self, place: Place) -> np.ndarray | None:
        """Of what the place gives in the dense model, the indices (int64) that are left; None where all are."""
        atoms = self.prediction.coupling.atoms
        slot = atoms.slot_at((place.output, -1, -1), place.axis)
        return None if slot is None else self.prediction.coupling.kept_of_slot(slot, self.prediction.removed)


def is_held_back(batch: Batch, size: int) -> bool:
    """Whether a batch of data that comes in batches of `size` is one to judge by, not to fit to."""
    return batch.first // max(size, 1) % _HELD_BACK == 1


def batch_for(data: Data, wanted: int | None) -> int:
    """Samples of a batch: as many as are wanted (or LARGEST_BATCH), but so few that one batch can be held back."""
    most = LARGEST_BATCH if data.samples is None else max(1, data.samples // _HELD_BACK)
    return min(wanted or LARGEST_BATCH, most)
