"""The smallest share to remove that meets every budget, by bisection over the exact cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnxprune.coupling.coupling import Coupling
from onnxprune.errors import BudgetError, SettingError
from onnxprune.plan.amount import spell
from onnxprune.plan.choices import Choice
from onnxprune.plan.ranking import Ranking
from onnxprune.types import Budget, Cost

PRECISION = 1e-6  # of the share: finer than one unit in a million


@dataclass(frozen=True)
class Limit:
    """At most `amount` of a quantity of Cost; `given` is what the user asked for."""

    option: str
    quantity: str
    amount: float
    given: float | int

    def holds(self, cost: Cost) -> bool:
        return bool(getattr(cost, self.quantity) <= self.amount)


def limits(budget: Budget, dense: Cost) -> list[Limit]:
    """The budget's limits as amounts. Raises SettingError for what is neither a share nor an amount."""
    found = []
    for option, quantity, given in (
        ("--max-macs", "macs", budget.max_macs),
        ("--max-params", "parameters", budget.max_parameters),
    ):
        if given is None:
            continue
        is_share = isinstance(given, float) and given <= 1
        if isinstance(given, bool) or not given > 0 or (not is_share and int(given) != given):
            raise SettingError(
                f"{option} is {given}", remedy="give a share to keep (a float above 0, at most 1.0) or an amount"
            )
        found.append(Limit(option, quantity, given * getattr(dense, quantity) if is_share else given, given))
    return found


class Search:
    """Looks for the mildest plan: `choices` say what may go, `ranking` what goes at which share."""

    def __init__(self, coupling: Coupling, choices: Sequence[Choice], ranking: Ranking) -> None:
        self._coupling, self._choices, self._ranking = coupling, choices, ranking
        self._known: dict[tuple[int, ...], Cost] = {}

    def cost(self, counts: tuple[int, ...]) -> Cost:
        """Cost with this many units of each choice kept."""
        if counts not in self._known:
            kept = {c.group.index: c.best(count) for c, count in zip(self._choices, counts, strict=True)}
            self._known[counts] = self._coupling.cost(self._coupling.removed_classes(kept))
        return self._known[counts]

    def mildest(self, floor: float, limits: Sequence[Limit]) -> tuple[tuple[int, ...], float]:
        """How many units of each choice stay, and the share: the smallest from `floor` on within all limits.

        Where the last step takes a whole rounding step from many groups at once, those whose units score most get
        theirs back, as many as the limits allow. Raises BudgetError where no share is enough.
        """
        if self._within(self._ranking(floor), limits):
            return self._ranking(floor), floor
        low, high = floor, 1.0
        if not self._within(self._ranking(high), limits):
            raise self._unreachable(limits)
        while high - low > PRECISION:
            middle = (low + high) / 2
            if self._within(self._ranking(middle), limits):
                high = middle
            else:
                low = middle
        return self._give_back(self._ranking(high), self._ranking(low), limits), high

    def _within(self, counts: tuple[int, ...], limits: Sequence[Limit]) -> bool:
        return not limits or all(limit.holds(self.cost(counts)) for limit in limits)

    def _give_back(self, small: tuple[int, ...], large: tuple[int, ...], limits: Sequence[Limit]) -> tuple[int, ...]:
        def worth(k: int) -> float:
            choice = self._choices[k]
            return float(choice.scores[choice.best_first[small[k] : large[k]]].mean())

        by_worth = sorted((k for k in range(len(small)) if small[k] < large[k]), key=worth, reverse=True)

        def with_first(count: int) -> tuple[int, ...]:
            regained = set(by_worth[:count])
            return tuple(large[k] if k in regained else small[k] for k in range(len(small)))

        fits, too_many = 0, len(by_worth)
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            if self._within(with_first(middle), limits):
                fits = middle
            else:
                too_many = middle
        return with_first(fits)

    def _unreachable(self, limits: Sequence[Limit]) -> BudgetError:
        least, dense = self.cost(self._ranking(1.0)), self._coupling.cost()
        parts = []
        for limit in limits:
            if not limit.holds(least):
                remains, whole = getattr(least, limit.quantity), getattr(dense, limit.quantity)
                parts.append(
                    f"{limit.option} allows {spell(limit.amount)} of {spell(whole)} {limit.quantity}, and "
                    f"{spell(remains)} ({remains / whole:.1%}) remain with every group at its minimum"
                )
        return BudgetError(
            "; ".join(parts),
            remedy="raise the budget to that, lower --round-to or --min-keep, or let more groups be pruned "
            "(--only, --ignore, --scope, --exact-only; `onnxprune inspect` says what is frozen and why)",
        )
