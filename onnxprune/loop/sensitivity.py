"""How much a metric suffers when one group alone loses a share of its units."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune import __version__
from onnxprune.coupling.coupling import Coupling
from onnxprune.edit.apply import apply
from onnxprune.errors import SettingError
from onnxprune.graph.model import Model
from onnxprune.importance import Scores
from onnxprune.plan import plan_for
from onnxprune.runtime.cache import ArrayCache
from onnxprune.runtime.metrics import Judge
from onnxprune.types import Group, Plan

SCHEMA = 1
RATIOS = (0.25, 0.5, 0.75)
_FORMAT = 1

Repair = Callable[[Model, Plan], Model]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Curve:
    """One group's figures: `values[k]` with `kept[k]` of its `size` units, the rest of the model whole."""

    name: str
    kind: str
    size: int
    kept: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Sensitivity:
    """The curves of all groups that were tried, and the dense model's own figure."""

    metric: str
    higher_is_better: bool
    dense: float
    samples: int
    curves: tuple[Curve, ...]

    def losses(self, curve: Curve) -> list[float]:
        """By how much the metric is worse at each point; where the dense figure is infinite, minus the figure."""
        base = self.dense if math.isfinite(self.dense) else 0.0
        return [base - value if self.higher_is_better else value - base for value in curve.values]

    def ranked(self) -> list[Curve]:
        """The curves, the group that suffers most first."""
        return sorted(self.curves, key=lambda curve: -max(self.losses(curve)))

    def as_dict(self) -> dict[str, Any]:
        """As plain data; an infinite figure is None."""
        return {
            "schema": SCHEMA, "metric": self.metric, "higher_is_better": self.higher_is_better,
            "dense": _finite(self.dense), "samples": self.samples,
            "groups": [
                {
                    "name": curve.name, "kind": curve.kind, "size": curve.size, "kept": list(curve.kept),
                    "values": [_finite(value) for value in curve.values],
                }
                for curve in self.curves
            ],
        }  # fmt: skip


def sensitivity(
    coupling: Coupling,
    judge: Judge,
    scores: Scores,
    *,
    ratios: Sequence[float] = RATIOS,
    groups: Collection[int] | None = None,
    repair: Repair | None = None,
    repair_key: str = "",
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Sensitivity:
    """Score models in which one group has lost each share of `ratios`, its units of the lowest scores.

    `groups` are indices of those to try (None: all); a share that leaves a group whole is left out. `repair` is
    applied to every model before it is scored, and `repair_key` says what it does, for the `cache`: a folder in which
    each figure is kept by all that it follows from, so that a run that was cut short goes on where it was.

    Raises SettingError for shares that are none, and what `Judge.score` raises.
    """
    for ratio in ratios:
        if not 0 < ratio < 1:
            raise SettingError(f"--ratios: {ratio:g} is no share to remove", remedy="give numbers between 0 and 1")
    chosen = [g for g in coupling.groups if groups is None or g.index in groups]
    jobs = [(group, kept) for group in chosen for kept in _sizes(group, ratios)]
    store = ArrayCache(None if cache is None else cache / "sensitivity")
    base = _key(coupling, judge, scores, repair_key) if cache is not None else {}
    found: dict[int, dict[int, float]] = {}
    for done, (group, kept) in enumerate(jobs):
        key = {**base, "group": group.name, "kept": kept}
        known = store.load(key)
        if known is None:
            value = judge.score(_without(coupling, scores, group, kept, repair)).value
            store.store(key, {"value": np.asarray(value)})
        else:
            value = float(known["value"])
        found.setdefault(group.index, {})[kept] = value
        if progress is not None:
            progress(done + 1, len(jobs))
    curves = [
        Curve(g.name, g.kind, g.size, tuple(found[g.index]), tuple(found[g.index].values()))
        for g in chosen
        if g.index in found
    ]
    dense = judge.dense
    return Sensitivity(judge.metric.name, judge.metric.higher_is_better, dense.value, dense.samples, tuple(curves))


def _sizes(group: Group, ratios: Sequence[float]) -> list[int]:
    """How many units stay, from most to least."""
    sizes = {max(1, round(group.size * (1 - ratio))) for ratio in ratios}
    return sorted(sizes - {group.size}, reverse=True)


def _without(coupling: Coupling, scores: Scores, group: Group, kept: int, repair: Repair | None) -> Model:
    best = np.argsort(-scores[group.index], kind="stable")[:kept]
    blocks = {}
    if group.index in scores.choices:
        blocks[group.name] = scores.choices[group.index][:, np.sort(best)].tolist()
    plan = plan_for(coupling, {group.name: best.tolist()}, blocks=blocks)
    model = apply(coupling.view.model, plan, coupling)
    return model if repair is None else repair(model, plan)


def _key(coupling: Coupling, judge: Judge, scores: Scores, repair: str) -> dict[str, Any]:
    from onnxprune.runtime.ort import onnxruntime

    return {
        "format": _FORMAT, "onnxprune": __version__, "onnxruntime": onnxruntime().__version__,
        "model": coupling.view.model.digest, "analysis": coupling.options, "data": judge.data.sha256,
        "judge": judge.settings(), "repair": repair, "scores": [values.tolist() for values in scores.values],
    }  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
