"""Metrics of classification: outputs [N, classes], labels [N]."""

from __future__ import annotations

import numpy as np

from onnxprune.errors import SettingError
from onnxprune.runtime.metrics.metric import Metric, class_labels, class_scores, library, shape_error


class TopK(Metric):
    """Share of samples whose label is among the k highest scores; a tie goes to the lower class, as argmax has it."""

    is_share = True

    def __init__(self, k: int) -> None:
        self.name, self._k = f"top{k}", k

    def parts(self, predicted: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """1 or 0 [N]. For k of 1 the output may also be classes, whole-numbered [N]."""
        if self._k == 1 and predicted.ndim == 1 and predicted.dtype.kind in "iu":
            return np.asarray(predicted == class_labels(self.name, predicted, wanted, None), np.float64)
        scores = class_scores(self.name, predicted, wanted)
        if scores.shape[1] <= self._k:
            raise SettingError(
                f"--metric {self.name}: the output has {scores.shape[1]} classes, so that every answer is right",
                remedy="give --metric top1",
            )
        labels = class_labels(self.name, predicted, wanted, scores.shape[1])
        mine = scores[np.arange(len(scores)), labels][:, None]
        ahead = (scores > mine) | ((scores == mine) & (np.arange(scores.shape[1]) < labels[:, None]))
        return np.asarray(ahead.sum(1) < self._k, np.float64)


class F1(Metric):
    """F1 of each class that occurs, and their mean (macro), by scikit-learn."""

    name = "f1"

    def parts(self, predicted: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """The class that is predicted and the label, [N, 2]."""
        scores = class_scores(self.name, predicted, wanted)
        labels = class_labels(self.name, predicted, wanted, scores.shape[1])
        return np.stack([scores.argmax(1), labels], 1)

    def value(self, parts: np.ndarray) -> float:
        """Of the classes that occur among labels or predictions."""
        metrics = library("sklearn.metrics", "--metric f1")
        return float(metrics.f1_score(parts[:, 1], parts[:, 0], average="macro", zero_division=0.0))


class AUC(Metric):
    """Area under the ROC curve, by scikit-learn; with several classes the mean of each against the rest."""

    name = "auc"

    def parts(self, predicted: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """One score [N] and the label for two classes, else all scores and the label: [N, scores + 1].

        Outputs [N] or [N, 1] are scores of class 1; of two columns the difference ranks as the softmax does.
        """
        flat = predicted.reshape(len(predicted), -1)
        if predicted.dtype.kind != "f" or flat.size != np.prod(predicted.shape[:2]):
            raise shape_error(self.name, predicted, wanted, "scores [N] or [N, classes] and labels [N]")
        labels = class_labels(self.name, predicted, wanted, max(2, flat.shape[1]))
        scores = flat.astype(np.float64)
        if scores.shape[1] == 2:
            scores = scores[:, 1:] - scores[:, :1]
        elif scores.shape[1] > 2 and not (scores.min() >= 0 and np.allclose(scores.sum(1), 1, atol=1e-3)):
            scores = library("scipy.special", "--metric auc").softmax(scores, 1)
        return np.column_stack([scores, labels])

    def value(self, parts: np.ndarray) -> float:
        """NaN where a class does not occur: then there is no curve."""
        metrics = library("sklearn.metrics", "--metric auc")
        scores, labels = parts[:, :-1], parts[:, -1].astype(np.int64)
        curves = range(1, 2) if scores.shape[1] == 1 else range(scores.shape[1])
        found = []
        for number in curves:
            is_class = labels == number
            if is_class.all() or not is_class.any():
                if scores.shape[1] == 1:
                    return float("nan")
                continue
            found.append(metrics.roc_auc_score(is_class, scores[:, 0 if scores.shape[1] == 1 else number]))
        return float(np.mean(found)) if found else float("nan")
