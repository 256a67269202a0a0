"""Scores of an analysed model's units under one criterion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.errors import SettingError
from onnxprune.importance.normalise import normaliser
from onnxprune.importance.registry import Context, find, find_by_block
from onnxprune.importance.tally import check_aggregation
from onnxprune.importance.traits import Unscored, traits_of
from onnxprune.runtime.gradients import Gradients
from onnxprune.runtime.statistics import Statistics


@dataclass(frozen=True)
class Scores:
    """`values[group.index][unit]` (float64, read-only): the larger, the more is lost with the unit.

    Groups in `unscored` could not be judged, and why; their values are zeros, and a plan leaves them whole. `data` is
    what a plan tells of the data behind the scores.

    Units of groups in `choices` are made up of other members than in the file: `choices[group.index]` (int64
    [blocks, units]) says for each block which member it gives to the unit. The first unit has each block's most
    important member, and so on.
    """

    values: tuple[np.ndarray, ...]
    criterion: str
    normalise: str = "mean"
    seed: int = 0
    choices: Mapping[int, np.ndarray] = field(default_factory=dict)
    balanced: bool = False
    aggregate: str = "sum"
    unscored: Mapping[int, str] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, group_index: int) -> np.ndarray:
        return self.values[group_index]

    def __len__(self) -> int:
        return len(self.values)


def score(
    coupling: Coupling,
    criterion: str = "l2",
    *,
    seed: int = 0,
    normalise: str | None = None,
    aggregate: str = "sum",
    data: Mapping[str, Any] | None = None,
    balanced: bool = False,
) -> Scores:
    """Score every unit of every group.

    `criterion` is a registered name ("l2", "random", or what installed packages bring); `normalise` says how the
    groups are brought to one scale ("mean", "none", see importance/normalise.py; None: as the criterion is meant);
    `aggregate` how what a unit has at several places becomes one number ("sum", "mean", "max", see
    importance/tally.py); `data` is handed to the criterion: `statistics` (runtime/calibrate.py) for those that need it.
    `balanced` lets every head, group of a convolution or direction lose members of its own, in equal number, where
    these can change places (coupling/balance.py) and the criterion says what each matters; l2, l1 and random do. Not
    the default, since the proof of what can change places takes as long again as the analysis.

    Raises SettingError for an unknown name, for statistics that a criterion needs and `data` has not, and for a
    criterion that does not give one finite number per unit, or the reason why it cannot judge a group.
    """
    function = find(criterion)
    normalise = normalise or traits_of(function).normalise
    scale = normaliser(normalise)
    check_aggregation(aggregate)
    context = Context(seed, dict(data or {}), aggregate)
    given = function(coupling, context)
    unscored = {index: item.why for index, item in enumerate(given) if isinstance(item, Unscored)}
    sizes = [group.size for group in coupling.groups]
    raw = [
        np.zeros(sizes[index] if index < len(sizes) else 0) if isinstance(item, Unscored) else item
        for index, item in enumerate(given)
    ]
    _check(criterion, raw, sizes)
    by_block = find_by_block(criterion) if balanced and aggregate == "sum" else None
    choices = {}
    if by_block is not None:
        parts_of, total = by_block
        for index, parts in parts_of(coupling, context).items():
            choices[index] = np.argsort(-parts, axis=1, kind="stable")
            raw[index] = total(np.take_along_axis(parts, choices[index], axis=1).sum(axis=0))
        _check(criterion, raw, [group.size for group in coupling.groups])
    values = []
    for item in raw:
        scaled = scale(np.array(item, np.float64))
        scaled.flags.writeable = False
        values.append(scaled)
    told = {name: item.summary() for name, item in context.data.items() if isinstance(item, Statistics | Gradients)}
    return Scores(
        tuple(values), criterion, normalise, seed, choices, by_block is not None, aggregate, unscored, told
    )  # fmt: skip


def _check(criterion: str, raw: Sequence[np.ndarray], sizes: Sequence[int]) -> None:
    """Criteria come from other packages too, and a wrong one must not prune the wrong units silently."""
    shapes = [np.shape(item) for item in raw]
    if shapes != [(size,) for size in sizes]:
        raise SettingError(
            f"the criterion {criterion!r} gave scores of shapes {shapes} for groups of {list(sizes)} units",
            remedy="it must give one number per unit for every group, in order",
        )
    for index, item in enumerate(raw):
        if not np.isfinite(item).all():
            raise SettingError(f"the criterion {criterion!r} gave NaN or infinity for group {index}")
