"""How good a model is on the user's data, by a named metric or the user's own; and how sure a difference is.

    judge = Judge("dense.onnx", open_data("test.npz", view), find_metric("top1"))
    judge.dense.value, judge.score("pruned.onnx").value

A metric makes statistics of each sample, and one figure of the statistics of any samples: so it can be taken batch by
batch, and again of samples drawn anew, which is what a confidence interval needs.
"""

from onnxprune.runtime.metrics.interval import Difference, difference
from onnxprune.runtime.metrics.judge import Judge, Score
from onnxprune.runtime.metrics.meter import Meter, Reading
from onnxprune.runtime.metrics.metric import Metric
from onnxprune.runtime.metrics.registry import METRICS, find_metric
from onnxprune.runtime.metrics.verdict import Limits, Verdict, validate

__all__ = [
    "METRICS",
    "Difference",
    "Judge",
    "Limits",
    "Meter",
    "Metric",
    "Reading",
    "Score",
    "Verdict",
    "difference",
    "find_metric",
    "validate",
]
