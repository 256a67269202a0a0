"""A metric that is a function of the user's script."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from onnxprune.errors import SettingError
from onnxprune.runtime.functions import digest
from onnxprune.runtime.metrics.metric import Metric


class Scripted(Metric):
    """`function(outputs, labels)`, both arrays [N, ...] of the same N samples.

    It gives one number per sample ([N]; the metric is their mean), or one number for all: then it is called again on
    all samples together, and on samples drawn anew.
    """

    def __init__(self, name: str, function: Callable[..., Any], *, higher_is_better: bool) -> None:
        self.name, self._function = name, function
        self.higher_is_better = higher_is_better

    def parts(self, predicted: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """The numbers [N], or pairs of output and label (objects [N, 2])."""
        found = self._call(predicted, wanted)
        if found.ndim == 1 and len(found) == len(predicted):
            return found
        if found.ndim:
            raise SettingError(
                f"--metric {self.name}: it gives numbers of the shape {list(found.shape)} for {len(predicted)} samples",
                remedy="give one number per sample, or a single one",
            )
        pairs = np.empty((len(predicted), 2), object)
        for pair, mine, theirs in zip(pairs, predicted, wanted, strict=True):
            pair[0], pair[1] = mine, theirs
        return pairs

    def value(self, parts: np.ndarray) -> float:
        """The mean of numbers, or what the function says of the pairs."""
        if parts.ndim == 1:
            return float(parts.mean())
        return float(self._call(np.stack(list(parts[:, 0])), np.stack(list(parts[:, 1]))))

    def settings(self) -> list[str]:
        """The name, and a hash of the script."""
        return [self.name, digest(self._function)]

    def _call(self, predicted: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        try:
            return np.asarray(self._function(predicted, wanted), np.float64)
        except Exception as error:
            raise SettingError(
                f"--metric {self.name}: it raised {type(error).__name__}: {error}",
                remedy="it is called with outputs and labels, arrays of as many samples",
            ) from error
