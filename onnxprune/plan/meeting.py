"""Plans whose time is measured: the table is corrected by each, until one takes what it may and not much less."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from onnxprune.errors import BudgetError
from onnxprune.plan.table import LatencyTable
from onnxprune.types import Plan

_ATTEMPTS = 6
_CLOSE = 0.94  # of the limit: from here on a plan uses what it may
_AIM = 0.975  # of the limit: what plans are made for, as they are measured now a little above that, now below


@dataclass(frozen=True)
class Comparison:
    """A pruned model beside the dense one, in one run: milliseconds, and the share with its 95 % interval.

    The interval is that of one measurement where a command of the user's did it.
    """

    before: float
    after: float
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Met:
    """A plan, the table that it follows from, and what was measured of it."""

    plan: Plan
    table: LatencyTable
    measured: Comparison


def meet_latency(
    planned: Callable[[LatencyTable, float], Plan],
    table: LatencyTable,
    measure: Callable[[Plan], Comparison],
    share: float,
    *,
    correct: bool = True,
) -> Met:
    """A plan that was measured to take at most `share` (0 to 1) of the dense model's time.

    `planned` makes a plan from a table and the share to aim at, `measure` times one. The table that comes back gives
    this very plan again. Without `correct` the table is taken as it is, and what is measured is only told. Raises
    BudgetError where no plan that was tried is fast enough, and as `planned` does.
    """
    tried: list[Met] = []
    for _ in range(_ATTEMPTS):
        made = planned(table, _AIM * share)
        found = Met(made, table, measure(made))
        if not correct or _CLOSE * share <= found.measured.share <= share:
            return found
        if any((made.groups, made.dropped) == (other.plan.groups, other.plan.dropped) for other in tried):
            tried.append(found)
            break  # a coarse rounding leaves nothing in between
        tried.append(found)
        kept = tuple(len(group.kept) for group in made.groups)
        table = table.corrected(kept, round(found.measured.share * table.dense, 5), made.dropped)
    enough = [met for met in tried if met.measured.share <= share]
    if not enough:
        nearest = min(tried, key=lambda met: met.measured.share)
        raise BudgetError(
            f"--max-latency allows {share:.1%} of the dense model's time, and the fastest of {len(tried)} plans was "
            f"measured to take {nearest.measured.share:.1%}",
            remedy="try again on a machine that does nothing else, or raise the budget",
        )
    return max(enough, key=lambda met: met.measured.share)
