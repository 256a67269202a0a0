"""A group as the planner sees it: its units from best to worst, and how many of them may stay."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from onnxprune.plan.counts import Counts
from onnxprune.types import Group


@dataclass(frozen=True)
class Choice:
    """`scores[unit]` as given; `ratio` is the share to remove if the user set one for this group alone.

    Groups of equal `structure` are built alike (structures.py).
    """

    group: Group
    counts: Counts
    scores: np.ndarray
    ratio: float | None = None
    structure: Hashable = None

    @cached_property
    def best_first(self) -> np.ndarray:
        """The units (int64) from the highest score down, of equal ones the earlier first."""
        return np.argsort(-self.scores, kind="stable")

    def best(self, count: int) -> list[int]:
        """The `count` best units, in rising order. More units always include fewer."""
        kept: list[int] = np.sort(self.best_first[:count]).tolist()
        return kept
