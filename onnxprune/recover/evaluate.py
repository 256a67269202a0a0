"""A metric of the written-back model, as ONNX Runtime computes it: what ships is what is judged."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from onnxprune.errors import SettingError
from onnxprune.graph.io import save
from onnxprune.graph.model import Model
from onnxprune.runtime.data import Data
from onnxprune.runtime.ort import RunOptions, make_session, run

Metric = Callable[[Sequence[np.ndarray], np.ndarray], float]
"""Of all outputs over all samples and what they should be: the larger, the better."""


def outputs_of(model: Model, data: Data, batch: int, options: RunOptions) -> list[np.ndarray]:
    """Every output over all samples, joined along the first axis. The model is written to a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="onnxprune-") as folder:
        path = Path(folder) / "model.onnx"
        save(model, path, layout="embedded")
        session = make_session(path, options)
        parts: list[list[np.ndarray]] = []
        for item in data.batches(batch, pad=True):
            found = run(session, None, item.feeds)
            parts.append([np.asarray(value)[: item.size] for value in found])
    if not parts:
        raise SettingError(f"{data.origin}: no batch could be made of it", remedy="give more samples")
    return [np.concatenate(values) for values in zip(*parts, strict=True)]


def accuracy(outputs: Sequence[np.ndarray], labels: np.ndarray) -> float:
    """The share of rows whose largest score is at the label."""
    scores = outputs[0].reshape(-1, outputs[0].shape[-1])
    return float((scores.argmax(1) == np.asarray(labels).reshape(-1)).mean())


def negative_error(outputs: Sequence[np.ndarray], labels: np.ndarray) -> float:
    """Minus the mean square error of the first output."""
    return -float(np.square(outputs[0].reshape(-1).astype(np.float64) - np.asarray(labels).reshape(-1)).mean())


class Agreement:
    """How near outputs are to a teacher's: the share of equal classes where there are some, and the error, negative.

    Classes decide; among equals the error does.
    """

    def __init__(self, teacher: Sequence[np.ndarray]) -> None:
        self.teacher = teacher

    def __call__(self, outputs: Sequence[np.ndarray], labels: np.ndarray) -> float:
        """`labels` are not looked at."""
        first, other = outputs[0].astype(np.float64), self.teacher[0].astype(np.float64)
        if first.ndim == 2 and first.shape[1] > 1:
            return float((first.argmax(1) == other.argmax(1)).mean())
        errors = [
            np.square(mine.astype(np.float64) - theirs).mean() / max(np.square(theirs.astype(np.float64)).mean(), 1e-12)
            for mine, theirs in zip(outputs, self.teacher, strict=True) if mine.dtype.kind == "f"
        ]  # fmt: skip
        return -float(np.mean(errors))
