"""What a metric is: statistics of each sample, and the figure that they make together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib import import_module
from types import ModuleType
from typing import ClassVar, Literal

import numpy as np

from onnxprune.errors import RuntimeMissingError, SettingError


class Metric(ABC):
    """One metric. It holds no state: samples go through `parts`, and any selection of parts through `value`."""

    name: str
    unit: ClassVar[str] = ""
    higher_is_better: bool = True
    needs: ClassVar[Literal["labels", "dense"]] = "labels"
    """What the outputs are compared with: the data's labels, or what the dense model puts out for the same samples."""
    best: ClassVar[float | None] = None
    """What the dense model gets where outputs are compared with its own."""
    is_share: ClassVar[bool] = False
    """Whether parts are shares, of 0 and 1 alone where each sample is right or wrong as a whole."""

    @abstractmethod
    def parts(self, predicted: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Statistics [N, ...] of N samples: `predicted` and `wanted` begin with the axis of samples.

        Raises SettingError where the two have shapes or values that the metric is not for.
        """

    def value(self, parts: np.ndarray) -> float:
        """The figure of the samples whose statistics these are: unless a metric says otherwise, their mean."""
        return float(parts.mean())

    def settings(self) -> list[str]:
        """What tells this metric from others, for keys of caches."""
        return [self.name]

    def loss(self, dense: float, pruned: float) -> float:
        """By how much the pruned model is worse; negative where it is better."""
        return dense - pruned if self.higher_is_better else pruned - dense


def library(name: str, what: str) -> ModuleType:
    """A package of the extra [validate]. Raises RuntimeMissingError, which says what it is needed for."""
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise RuntimeMissingError(
            f"{what} needs {package}, which is not installed", remedy="`pip install onnxprune[validate]`"
        ) from error


def shape_error(metric: str, predicted: np.ndarray, wanted: np.ndarray, expected: str) -> SettingError:
    """The error for arrays that a metric is not for."""
    return SettingError(
        f"--metric {metric} cannot compare an output {predicted.dtype}{list(predicted.shape)} "
        f"with {wanted.dtype}{list(wanted.shape)}",
        remedy=f"it wants {expected}; --metric-output names another output, --postprocess makes of it what is wanted",
    )


def class_scores(metric: str, predicted: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Scores [N, classes], trailing axes of 1 dropped. Raises SettingError for anything else."""
    scores = predicted.reshape(predicted.shape[:2]) if predicted.size == np.prod(predicted.shape[:2]) else predicted
    if scores.ndim != 2 or scores.shape[1] < 2 or scores.dtype.kind != "f":
        raise shape_error(metric, predicted, wanted, "scores [N, classes] and labels [N]")
    return scores


def class_labels(metric: str, predicted: np.ndarray, wanted: np.ndarray, classes: int | None) -> np.ndarray:
    """Labels int64 [N], each below `classes`; one-hot rows become the class that they mark."""
    labels = wanted
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    elif labels.ndim == 2 and labels.shape[1] == classes:
        labels = labels.argmax(1)
    if labels.ndim != 1 or labels.dtype.kind not in "iub":
        raise shape_error(metric, predicted, wanted, "scores [N, classes] and whole-numbered labels [N]")
    labels = labels.astype(np.int64)
    if classes is not None and labels.size and not 0 <= labels.min() <= labels.max() < classes:
        wrong = labels.max() if labels.max() >= classes else labels.min()
        raise SettingError(
            f"--metric {metric}: the data has the label {wrong}, and the output {classes} classes (0 to {classes - 1})",
            remedy="check the labels, or name the right output with --metric-output",
        )
    return labels
