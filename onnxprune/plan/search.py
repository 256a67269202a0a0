"""The smallest share to remove that meets every budget, by bisection over the exact cost."""

from __future__ import annotations

from collections.abc import Sequence

from onnxprune.plan.choices import Choice
from onnxprune.plan.costs import Costs
from onnxprune.plan.limits import Limit, unreachable
from onnxprune.plan.ranking import Ranking

PRECISION = 1e-6  # of the share: finer than one unit in a million


class Search:
    """Looks for the mildest plan: `choices` say what may go, `ranking` what goes at which share."""

    def __init__(self, costs: Costs, choices: Sequence[Choice], ranking: Ranking) -> None:
        self._costs, self._choices, self._ranking = costs, choices, ranking

    def mildest(self, floor: float, limits: Sequence[Limit]) -> tuple[tuple[int, ...], float]:
        """How many units of each choice stay, and the share: the smallest from `floor` on within all limits.

        Where the last step takes a whole rounding step from many groups at once, those whose units score most get
        theirs back, as many as the limits allow. Raises BudgetError where no share is enough.
        """
        if self._within(self._ranking(floor), limits):
            return self._ranking(floor), floor
        low, high = floor, 1.0
        if not self._within(self._ranking(high), limits):
            raise unreachable(limits, self._costs.at(self._ranking(1.0)), self._costs.dense)
        while high - low > PRECISION:
            middle = (low + high) / 2
            if self._within(self._ranking(middle), limits):
                high = middle
            else:
                low = middle
        return self._give_back(self._ranking(high), self._ranking(low), limits), high

    def _within(self, counts: tuple[int, ...], limits: Sequence[Limit]) -> bool:
        return not limits or all(limit.holds(self._costs.at(counts)) for limit in limits)

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
