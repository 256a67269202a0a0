"""Top-1 accuracy in ONNX Runtime, per sample, so that two models can be compared in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxprune.errors import SettingError
from onnxprune.graph.model import Model
from onnxprune.runtime.data import Batch, Data
from onnxprune.runtime.ort import RunOptions, make_session
from onnxprune.runtime.tap import data_folder

_BATCH = 100


@dataclass(frozen=True)
class TestSet:
    """Labelled samples, read once and held in memory."""

    batches: tuple[Batch, ...]
    labels: np.ndarray

    @classmethod
    def of(cls, data: Data) -> TestSet:
        """Raises SettingError where the data has no labels."""
        if data.labels is None:
            raise SettingError(
                f"{data.origin} has no labels", remedy="give `labels` in the .npz, or a folder per class"
            )
        return cls(tuple(data.batches(_BATCH, pad=True)), data.labels)


def hits(model: Model, test: TestSet, options: RunOptions) -> np.ndarray:
    """For each sample (bool) whether the first output is largest at its label."""
    session = make_session(model.to_proto().SerializeToString(), options, folder=data_folder(model))
    name = session.get_outputs()[0].name
    found = []
    for batch in test.batches:
        (scores,) = session.run([name], batch.feeds)
        found.append(scores.reshape(len(scores), -1)[: batch.size].argmax(axis=1))
    return np.asarray(np.concatenate(found) == test.labels)


@dataclass(frozen=True)
class Measured:
    """Accuracy in percent, and its difference to dense in points with the half-width of a paired 95 % interval."""

    accuracy: float
    difference: float
    interval: float

    @classmethod
    def of(cls, runs: Sequence[np.ndarray], dense: np.ndarray) -> Measured:
        """Of the hits of several seeds, which are averaged sample by sample before pairs are formed."""
        mean = np.mean(runs, axis=0)
        apart = mean - dense
        half = 1.96 * apart.std(ddof=1) / len(apart) ** 0.5
        return cls(100 * float(mean.mean()), 100 * float(apart.mean()), 100 * float(half))
