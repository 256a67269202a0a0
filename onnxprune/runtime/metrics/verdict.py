"""Does a pruned model keep to what was asked of it?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from onnxprune.display import html_table
from onnxprune.errors import SettingError
from onnxprune.runtime.metrics.interval import CONFIDENCE, RESAMPLES, Difference, difference
from onnxprune.runtime.metrics.judge import Judge, Source
from onnxprune.runtime.metrics.metric import Metric
from onnxprune.runtime.stream import Progress


@dataclass(frozen=True)
class Limits:
    """What a pruned model must keep to; all that is given holds at once.

    `max_drop` is how much worse than the dense model it may be, in the metric's own units, or with `relative` as a
    share of the dense model's figure. `floor` is the figure that it must reach (a ceiling where lower is better).
    `strict` asks that the whole confidence interval of the drop keeps to `max_drop`.
    """

    max_drop: float | None = None
    relative: bool = False
    floor: float | None = None
    strict: bool = False

    def check(self, metric: Metric, dense: float) -> None:
        """Raise SettingError for limits that the dense model itself does not keep to, or that make no sense."""
        if self.max_drop is not None and (self.max_drop < 0 or math.isnan(self.max_drop)):
            raise SettingError(f"--max-drop is {self.max_drop:g}", remedy="give 0 or more")
        if self.max_drop is not None and math.isinf(dense):
            raise SettingError(
                f"--max-drop: the dense model's own {metric.name} is {dense:g}", remedy="give --floor instead"
            )
        if self.relative and not dense:
            raise SettingError(
                f"--max-drop is a share of the dense model's own {metric.name}, which is 0",
                remedy="give it in the metric's own units",
            )
        if self.floor is not None and metric.loss(dense, self.floor) < 0:
            raise SettingError(
                f"--floor {self.floor:g} is better than the dense model's own {metric.name}, {dense:.6g}",
                remedy="give one that the dense model reaches",
            )
        if self.strict and self.max_drop is None:
            raise SettingError("--strict says how --max-drop is meant, and there is none", remedy="give --max-drop")

    def allowed(self, dense: float) -> float | None:
        """The largest drop allowed, in the metric's units."""
        if self.max_drop is None:
            return None
        return self.max_drop * abs(dense) if self.relative else self.max_drop


@dataclass(frozen=True)
class Verdict:
    """Both models' figures on `samples` samples, the difference, and each limit that the pruned model breaks.

    `difference` is None where the dense model's own figure is infinite.
    """

    metric: str
    samples: int
    dense: float
    pruned: float
    difference: Difference | None
    broken: tuple[str, ...]
    undecided: bool = False
    """The limit on the drop lies within the confidence interval: more samples may decide otherwise."""

    def _repr_html_(self) -> str:
        """For notebooks: both figures and the difference."""
        worse = self.difference
        told = "" if worse is None else f"{worse.loss:+.4g} ({worse.low:+.4g} to {worse.high:+.4g})"
        row = (self.metric, f"{self.dense:.6g}", f"{self.pruned:.6g}", told)
        caption = f"on {self.samples} samples: " + ("; ".join(self.broken) or "all limits kept")
        return html_table(caption, ("", "dense", "pruned", "worse by"), [row])

    @property
    def passed(self) -> bool:
        """Whether all limits are kept."""
        return not self.broken

    def as_dict(self) -> dict[str, Any]:
        """As plain data; infinite figures are None."""
        found: dict[str, Any] = {
            "metric": self.metric, "samples": self.samples, "dense": _finite(self.dense),
            "pruned": _finite(self.pruned), "passed": self.passed, "broken": list(self.broken),
            "undecided": self.undecided,
        }  # fmt: skip
        if self.difference is not None:
            found |= {"difference": {**vars(self.difference), "is_change": self.difference.is_change}}
        return found


def validate(
    judge: Judge,
    pruned: Source,
    limits: Limits = Limits(),
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> Verdict:
    """Compare a pruned model with the judge's dense one. Raises what `Limits.check` and `Judge.score` raise."""
    metric, dense = judge.metric, judge.dense
    limits.check(metric, dense.value)
    score = judge.score(pruned, progress)
    found = None
    if math.isfinite(dense.value):
        found = difference(
            metric, dense.parts, score.parts, confidence=confidence, resamples=resamples, seed=seed
        )  # fmt: skip
    broken, undecided = [], False
    allowed = limits.allowed(dense.value)
    if found is not None and allowed is not None:
        undecided = found.low <= allowed < found.high
        worst = found.high if limits.strict else found.loss
        if worst > allowed + _ROUNDING:
            what = f"may be up to {worst:.4g} worse" if limits.strict else f"is {worst:.4g} worse"
            broken.append(f"{metric.name} {what}, and --max-drop allows {allowed:.4g}")
    if limits.floor is not None and metric.loss(limits.floor, score.value) > _ROUNDING:
        broken.append(f"{metric.name} is {score.value:.6g}, and --floor asks for {limits.floor:g}")
    return Verdict(metric.name, score.samples, dense.value, score.value, found, tuple(broken), undecided)


_ROUNDING = 1e-12  # 0.9 - 0.89 is a little more than 0.01


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
