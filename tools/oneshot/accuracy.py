"""What models answer in ONNX Runtime, by sample: top-1 accuracy, compared in pairs, and how far outputs are apart.

The error of the outputs (runtime/divergence.py) tells models apart that some hundred or thousand labels do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxprune.errors import SettingError
from onnxprune.graph.model import Model
from onnxprune.runtime.data import Batch, Data
from onnxprune.runtime.divergence import Reference
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


@dataclass(frozen=True)
class Answers:
    """A model's first output, `scores` [N, K], and `hits`: whether it is largest at the label (bool [N])."""

    scores: np.ndarray
    hits: np.ndarray

    @classmethod
    def of(cls, model: Model, test: TestSet, options: RunOptions) -> Answers:
        """The model is run on all of the test set."""
        session = make_session(model.to_proto().SerializeToString(), options, folder=data_folder(model))
        name = session.get_outputs()[0].name
        found = []
        for batch in test.batches:
            (scores,) = session.run([name], batch.feeds)
            found.append(scores.reshape(len(scores), -1)[: batch.size])
        every = np.concatenate(found)
        return cls(every, np.asarray(every.argmax(axis=1) == test.labels))

    @classmethod
    def joined(cls, parts: Sequence[Answers]) -> Answers:
        """Of several test sets, one behind the other."""
        return cls(np.concatenate([part.scores for part in parts]), np.concatenate([part.hits for part in parts]))

    def error(self, dense: Answers) -> float:
        """Of the scores, from the dense model's: their mean square difference as a share of the variance, or nats."""
        return Reference([[dense.scores]]).divergence([[self.scores]])


@dataclass(frozen=True)
class Measured:
    """Accuracy in percent, its difference to dense in points with the half-width of a paired 95 % interval, and the
    error of the scores.
    """

    accuracy: float
    difference: float
    interval: float
    error: float

    @classmethod
    def of(cls, runs: Sequence[Answers], dense: Answers) -> Measured:
        """Of several seeds, whose hits are averaged sample by sample before pairs are formed."""
        mean = np.mean([run.hits for run in runs], axis=0)
        apart = mean - dense.hits
        half = 1.96 * apart.std(ddof=1) / len(apart) ** 0.5
        error = float(np.mean([run.error(dense) for run in runs]))
        return cls(100 * float(mean.mean()), 100 * float(apart.mean()), 100 * float(half), error)

    def row(self) -> tuple[str, str, str]:
        """As tables show it: accuracy, difference, error."""
        return f"{self.accuracy:.2f}", f"{self.difference:+.2f} ± {self.interval:.2f}", f"{self.error:.4f}"
