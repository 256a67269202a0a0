"""How sure a difference between two models on the same samples is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onnxprune.runtime.metrics.metric import Metric, library

RESAMPLES = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """By how much the pruned model is worse (negative: better), with the confidence interval `low` to `high`.

    `method` says how the interval was found. `p_value` is that of McNemar's exact test, for metrics that count samples
    as right or wrong; `worse` and `better` are then the samples on which the models differ.
    """

    loss: float
    low: float
    high: float
    confidence: float
    method: str
    p_value: float | None = None
    worse: int | None = None
    better: int | None = None

    @property
    def is_change(self) -> bool:
        """Whether these samples show a difference at all: the interval leaves out zero."""
        return not self.low <= 0 <= self.high


def difference(
    metric: Metric,
    dense: np.ndarray,
    pruned: np.ndarray,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """The difference of two models' figures from the statistics of the same samples [N, ...].

    Shares of samples that are right: Newcombe's square-and-add interval for paired proportions (Statistics in
    Medicine 17, 1998, method 10), which is not empty where the models agree on all samples. Anything else: a paired
    percentile bootstrap of `resamples` draws with `seed`.
    """
    loss = metric.loss(metric.value(dense), metric.value(pruned))
    if metric.is_share and np.isin(dense, (0, 1)).all() and np.isin(pruned, (0, 1)).all():
        return _of_shares(dense > 0, pruned > 0, loss, confidence)
    rng = np.random.default_rng(seed)
    losses = np.empty(resamples)
    for number in range(resamples):
        drawn = rng.integers(0, len(dense), len(dense))
        losses[number] = metric.loss(metric.value(dense[drawn]), metric.value(pruned[drawn]))
    known = losses[~np.isnan(losses)]  # a class may be missing from a draw
    outside = (1 - confidence) / 2
    low, high = np.quantile(known, [outside, 1 - outside]) if len(known) else (math.nan, math.nan)
    return Difference(loss, float(low), float(high), confidence, f"paired bootstrap, {len(known)} draws")


def _of_shares(dense: np.ndarray, pruned: np.ndarray, loss: float, confidence: float) -> Difference:
    stats = library("scipy.stats", "the confidence interval")
    count = len(dense)
    worse, better = int((dense & ~pruned).sum()), int((pruned & ~dense).sum())
    both, neither = int((dense & pruned).sum()), int((~dense & ~pruned).sum())
    one, other = both + worse, both + better  # right in the dense model, and in the pruned one
    wilson = [stats.binomtest(right, count).proportion_ci(confidence, "wilson") for right in (one, other)]
    margins = one * (count - one) * other * (count - other)
    phi = (both * neither - worse * better) / math.sqrt(margins) if margins else 0.0
    first, second = one / count, other / count

    def reach(to_first: float, to_second: float) -> float:
        return math.sqrt(max(0.0, to_first**2 - 2 * phi * to_first * to_second + to_second**2))

    low = loss - reach(first - wilson[0].low, wilson[1].high - second)
    high = loss + reach(wilson[0].high - first, second - wilson[1].low)
    p_value = float(stats.binomtest(worse, worse + better).pvalue) if worse + better else 1.0
    return Difference(loss, low, high, confidence, "Newcombe's paired interval", p_value, worse, better)
