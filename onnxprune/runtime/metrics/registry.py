"""Metrics by name."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from functools import partial

from onnxprune.errors import SettingError
from onnxprune.runtime.functions import load_function, split
from onnxprune.runtime.metrics.classification import AUC, F1, TopK
from onnxprune.runtime.metrics.detection import MeanAveragePrecision
from onnxprune.runtime.metrics.metric import Metric
from onnxprune.runtime.metrics.regression import R2, MeanAbsoluteError, MeanSquaredError, Spearman
from onnxprune.runtime.metrics.scripted import Scripted
from onnxprune.runtime.metrics.segmentation import MeanIoU
from onnxprune.runtime.metrics.similarity import Agreement, Cosine, KullbackLeibler, SignalToNoise
from onnxprune.runtime.metrics.text import ErrorRate, Perplexity

METRICS: dict[str, Callable[[], Metric]] = {
    "top1": partial(TopK, 1),
    "top5": partial(TopK, 5),
    "f1": F1,
    "auc": AUC,
    "mse": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "r2": R2,
    "spearman": Spearman,
    "miou": MeanIoU,
    "map": partial(MeanAveragePrecision, "map"),
    "map50": partial(MeanAveragePrecision, "map50"),
    "perplexity": Perplexity,
    "cer": partial(ErrorRate, "cer"),
    "wer": partial(ErrorRate, "wer"),
    "agreement": Agreement,
    "cosine": Cosine,
    "kl": KullbackLeibler,
    "snr": SignalToNoise,
}
"""The last four compare with the dense model's outputs and need no labels."""

DEFAULT_FUNCTION = "metric"


def find_metric(given: str, *, lower_is_better: bool = False) -> Metric:
    """The metric of that name, or of `script.py:function`; `lower_is_better` says so of a script's.

    Raises SettingError for a name that there is not, and for a script that cannot be used.
    """
    script = split(given)
    if script is not None:
        path, name = script
        function = load_function(path, name or DEFAULT_FUNCTION, "--metric")
        return Scripted(given, function, higher_is_better=not lower_is_better)
    if given not in METRICS:
        near = get_close_matches(given, METRICS, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise SettingError(
            f"--metric {given}: there is no such metric",
            remedy=f"{meant}There are {', '.join(METRICS)}, and script.py:function",
        )
    if lower_is_better:
        raise SettingError(
            f"--lower-is-better is for a script's metric, and of {given} it is known", remedy="leave it out"
        )
    return METRICS[given]()
