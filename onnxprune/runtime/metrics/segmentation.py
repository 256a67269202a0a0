"""Mean intersection over union: outputs [N, classes, ...], labels [N, ...]."""

from __future__ import annotations

import numpy as np

from onnxprune.errors import SettingError
from onnxprune.runtime.metrics.metric import Metric, shape_error

IGNORED = 255
"""The label that does not count, as data sets have it; negative ones do not either."""


class MeanIoU(Metric):
    """Intersection over union of each class, over all places of all samples, and their mean over classes that occur."""

    name = "miou"

    def parts(self, predicted: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Places where a class is both, predicted, and wanted: int64 [N, 3, classes].

        Outputs are scores [N, classes, ...] or classes, whole-numbered, [N, ...].
        """
        if wanted.dtype.kind not in "iu":
            raise shape_error(self.name, predicted, wanted, "whole-numbered labels [N, ...]")
        labels = wanted.astype(np.int64)
        if predicted.dtype.kind == "f" and predicted.ndim == labels.ndim + 1 and predicted.shape[1] > 1:
            classes, found = predicted.shape[1], predicted.argmax(1)
        elif predicted.dtype.kind in "iu" and predicted.shape == labels.shape:
            # classes are at most 254 in such data: beside 255, which is ignored, this is what a byte holds
            classes, found = IGNORED, predicted.astype(np.int64)
        else:
            raise shape_error(self.name, predicted, wanted, "scores [N, classes, ...] or classes [N, ...]")
        if found.shape != labels.shape:
            raise shape_error(self.name, predicted, wanted, "outputs and labels of one size")
        counts = (labels >= 0) & (labels != IGNORED)
        highest = max(int(labels[counts].max(initial=0)), int(found.max(initial=0)))
        if highest >= classes:
            raise SettingError(
                f"--metric miou: there is a class {highest}, and the output has {classes}",
                remedy="check the labels: 255 and negative ones are not counted",
            )
        parts = np.zeros((len(labels), 3, classes), np.int64)
        for row, mine, theirs, use in zip(parts, found, labels, counts, strict=True):
            row[0] = np.bincount(mine[use & (mine == theirs)], minlength=classes)
            row[1] = np.bincount(mine[use], minlength=classes)
            row[2] = np.bincount(theirs[use], minlength=classes)
        return parts

    def value(self, parts: np.ndarray) -> float:
        """NaN where no class occurs."""
        both, predicted, wanted = parts.sum(0)
        union = predicted + wanted - both
        return float((both[union > 0] / union[union > 0]).mean()) if union.any() else float("nan")
