"""Mean average precision of detections, by pycocotools: boxes with scores and classes against labelled boxes."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np

from onnxprune.runtime.metrics.metric import Metric, library, shape_error

_DETECTION, _TRUTH = 6, 5  # x1, y1, x2, y2, score, class; x1, y1, x2, y2, class


class MeanAveragePrecision(Metric):
    """COCO's mAP, the mean over thresholds 0.50 to 0.95 and classes (`map`), or at 0.50 alone (`map50`).

    Outputs are [N, boxes, 6]: x1, y1, x2, y2, score, class. Labels are [N, boxes, 5]: x1, y1, x2, y2, class. Both in
    the same units; rows of a negative class (and of a score that is not above 0) fill up. At most 100 detections an
    image count, the best ones.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def parts(self, predicted: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Each sample's detections and labels: objects [N, 2] of arrays [boxes, 6] and [boxes, 5]."""
        fits = predicted.ndim == wanted.ndim == 3 and predicted.shape[2] == _DETECTION and wanted.shape[2] == _TRUTH
        if not fits or predicted.dtype.kind != "f" or wanted.dtype.kind not in "fiu":
            raise shape_error(
                self.name, predicted, wanted,
                "[N, boxes, 6] of x1, y1, x2, y2, score, class and labels [N, boxes, 5] of x1, y1, x2, y2, class",
            )  # fmt: skip
        parts = np.empty((len(predicted), 2), object)
        for row, mine, theirs in zip(parts, predicted, wanted, strict=True):
            row[0] = mine[(mine[:, 5] >= 0) & (mine[:, 4] > 0)].astype(np.float64)
            row[1] = theirs[theirs[:, 4] >= 0].astype(np.float64)
        return parts

    def value(self, parts: np.ndarray) -> float:
        """NaN where no box is labelled."""
        if not sum(len(truth) for _, truth in parts):
            return float("nan")
        coco = library("pycocotools.coco", f"--metric {self.name}").COCO
        evaluation = library("pycocotools.cocoeval", f"--metric {self.name}").COCOeval
        truths = [
            {"image_id": number, "category_id": int(box[4]), "iscrowd": 0, **_box(box)}
            for number, (_, boxes) in enumerate(parts)
            for box in boxes
        ]
        found = [
            {"image_id": number, "category_id": int(box[5]), "score": float(box[4]), **_box(box)}
            for number, (boxes, _) in enumerate(parts)
            for box in boxes
        ]
        if not found:
            return 0.0
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools talks
            run = evaluation(_index(coco, truths, len(parts)), _index(coco, found, len(parts)), "bbox")
            run.params.areaRng, run.params.areaRngLbl = [run.params.areaRng[0]], ["all"]
            run.params.maxDets = [100]
            if self.name == "map50":
                run.params.iouThrs = np.asarray([0.5])
            run.evaluate()
            run.accumulate()
        precision = run.eval["precision"]
        return float(precision[precision > -1].mean())


def _box(corners: np.ndarray) -> dict[str, Any]:
    """A box as pycocotools has it."""
    x1, y1, x2, y2 = corners[:4].tolist()
    return {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}


def _index(coco: Any, boxes: list[dict[str, Any]], images: int) -> Any:
    """An annotation set in memory; pycocotools' own loader reads files."""
    made = coco()
    made.dataset = {
        "images": [{"id": number} for number in range(images)],
        "categories": [{"id": number} for number in sorted({box["category_id"] for box in boxes})],
        "annotations": [{"id": number, **box} for number, box in enumerate(boxes, 1)],
    }
    made.createIndex()
    return made
