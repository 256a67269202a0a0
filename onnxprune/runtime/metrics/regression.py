"""Metrics of regression and ranking: outputs and labels of one shape [N, ...]."""

from __future__ import annotations

import numpy as np

from onnxprune.runtime.metrics.metric import Metric, library, shape_error


def _paired(name: str, predicted: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 [N, values]."""
    mine, theirs = predicted.reshape(len(predicted), -1), wanted.reshape(len(wanted), -1)
    if mine.shape != theirs.shape or mine.dtype.kind not in "fiu" or theirs.dtype.kind not in "fiub":
        raise shape_error(name, predicted, wanted, "numbers of one shape")
    return mine.astype(np.float64), theirs.astype(np.float64)


class MeanSquaredError(Metric):
    """Mean of squared errors over all values."""

    name = "mse"
    higher_is_better = False

    def parts(self, predicted: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Each sample's mean [N]."""
        mine, theirs = _paired(self.name, predicted, wanted)
        return np.asarray(((mine - theirs) ** 2).mean(1))


class MeanAbsoluteError(Metric):
    """Mean of absolute errors over all values."""

    name = "mae"
    higher_is_better = False

    def parts(self, predicted: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Each sample's mean [N]."""
        mine, theirs = _paired(self.name, predicted, wanted)
        return np.asarray(np.abs(mine - theirs).mean(1))


class R2(Metric):
    """Share of the labels' variance that the outputs explain, by scikit-learn; the mean over several values."""

    name = "r2"

    def parts(self, predicted: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Outputs and labels [N, 2, values]."""
        return np.stack(_paired(self.name, predicted, wanted), 1)

    def value(self, parts: np.ndarray) -> float:
        """NaN for fewer than two samples."""
        if len(parts) < 2:
            return float("nan")
        return float(library("sklearn.metrics", "--metric r2").r2_score(parts[:, 1], parts[:, 0]))


class Spearman(Metric):
    """Rank correlation of one output a sample with its label (semantic similarity, ranking), by SciPy."""

    name = "spearman"

    def parts(self, predicted: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Output and label [N, 2]."""
        mine, theirs = _paired(self.name, predicted, wanted)
        if mine.shape[1] != 1:
            raise shape_error(self.name, predicted, wanted, "one score and one label a sample")
        return np.column_stack([mine, theirs])

    def value(self, parts: np.ndarray) -> float:
        """NaN where outputs or labels are all equal: then they have no order."""
        if len(parts) < 2 or (parts == parts[0]).all(0).any():
            return float("nan")
        return float(library("scipy.stats", "--metric spearman").spearmanr(parts[:, 0], parts[:, 1]).statistic)
