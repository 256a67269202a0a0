"""Curves that `sensitivity` wrote to a file, as what the planner weighs groups by."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.errors import SettingError
from onnxprune.loop.sensitivity import SCHEMA
from onnxprune.plan.curves import interpolated

_NAMED = 3  # groups that a message names
_TIE = 1e-3  # of the largest loss: few samples see no difference between groups that lose little


def criterion_of(path: Path) -> str:
    """The criterion that chose the units of the curves in a file. Raises SettingError for a file that is none."""
    return str(_read(path)["criterion"])


def recorded(path: Path, coupling: Coupling, wanted: Collection[int]) -> dict[int, np.ndarray]:
    """By group index what keeping n of its units loses (float64 [size + 1]), from the curves in the file at `path`.

    It must have those of the groups `wanted` (indices).

    A group's loss is by how much the metric is worse than the dense model's (of signal to noise in decibels, the
    noise's share); it never falls as more units go, and where the samples saw nothing a little is taken for the share
    that goes. Raises SettingError for a file that is none, or of another model or other groups.
    """
    found = _read(path)
    if found.get("model_digest") != coupling.view.model.digest:
        raise SettingError(
            f"{path} has the curves of another model",
            remedy="measure this one's: `onnxprune sensitivity MODEL -o FILE`",
        )
    by_name = {group.name: group for group in coupling.groups}
    known: dict[int, dict[int, float]] = {}
    for item in found["groups"]:
        group = by_name.get(item["name"])
        if group is None or group.size != item["size"]:
            raise SettingError(
                f"{path}: this analysis has no group {item['name']} of {item['size']} units",
                remedy="analyse with the same --bind, --input-shapes and --allow-io-change as for the curves",
            )
        points = {kept: _loss(found, value) for kept, value in zip(item["kept"], item["values"], strict=True)}
        known[group.index] = _rising({group.size: 0.0, **points})
    missing = [coupling.groups[index].name for index in sorted(set(wanted) - set(known))]
    if missing:
        listed = ", ".join(missing[:_NAMED]) + (f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else "")
        raise SettingError(
            f"{path} has no curve for {listed}",
            remedy="give the --scope, --only and --ignore that the curves were measured with, or measure these too",
        )
    sizes = {index: coupling.groups[index].size for index in known}
    most = max((loss for points in known.values() for loss in points.values() if math.isfinite(loss)), default=0.0)
    slope = _TIE * (most or 1.0)
    return {i: interpolated(known[i], size) + slope * (1 - np.arange(size + 1) / size) for i, size in sizes.items()}


def _loss(found: Mapping[str, Any], value: float | None) -> float:
    if found["dense"] is None:
        return 0.0 if value is None else 10 ** (-value / 10)
    if value is None:
        return math.inf
    worse: float = found["dense"] - value if found["higher_is_better"] else value - found["dense"]
    return worse


def _rising(points: Mapping[int, float]) -> dict[int, float]:
    """The same, each at least what more units kept lose."""
    found: dict[int, float] = {}
    most = 0.0
    for kept in sorted(points, reverse=True):
        most = max(most, points[kept])
        found[kept] = most
    return found


def _read(path: Path) -> dict[str, Any]:
    remedy = "`onnxprune sensitivity MODEL --data DATA -o FILE` writes one"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no JSON"
        raise SettingError(f"--sensitivity {path} cannot be read: {why}", remedy=remedy) from error
    keys = {"schema", "dense", "higher_is_better", "groups", "model_digest", "criterion"}
    if not isinstance(found, dict) or not keys <= set(found) or found["schema"] != SCHEMA:
        raise SettingError(f"--sensitivity {path} holds no curves of schema {SCHEMA}", remedy=remedy)
    return found
