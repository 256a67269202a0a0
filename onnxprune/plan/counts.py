"""How many units of a group may stay: the least, the most, and what rounding allows between them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from onnxprune.types import Group

NEVER_ROUNDED = frozenset({"heads", "experts"})
LARGE = 2  # a group is rounded from this many multiples on


@dataclass(frozen=True)
class Counts:
    """The numbers of units of one group that may stay: `least` to `size`, in steps of `step` and `size` itself."""

    size: int
    least: int
    step: int = 1

    def nearest(self, wanted: float) -> int:
        """The allowed number nearest to `wanted`, the larger of two equally near. Never falls as `wanted` grows."""
        below = max(math.floor(round(wanted / self.step, 9)) * self.step, self.minimum)
        above = min(below + self.step, self.size)
        below = min(below, self.size)
        return below if round(wanted - below, 9) < round(above - wanted, 9) else above

    @property
    def minimum(self) -> int:
        """The least allowed number."""
        return min(math.ceil(self.least / self.step) * self.step, self.size)


def counts_for(group: Group, *, round_to: int | None, min_keep: int, max_ratio: float | None) -> Counts:
    """What may stay of a group.

    At least `min_keep` units stay, and all but a share of `max_ratio`. A group of at least twice `round_to` units is
    left with a multiple of `round_to`, or whole; a smaller one, heads and experts with any number.
    """
    least = min(max(1, min_keep), group.size)
    if max_ratio is not None:
        least = max(least, math.ceil(round(group.size * (1 - max_ratio), 9)))
    rounded = round_to is not None and group.kind not in NEVER_ROUNDED and group.size >= LARGE * round_to
    return Counts(group.size, least, round_to if rounded and round_to else 1)
