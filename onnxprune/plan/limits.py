"""What a budget allows of each quantity, as amounts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnxprune.errors import BudgetError, SettingError
from onnxprune.plan.amount import spell
from onnxprune.types import Budget, Cost

OPTIONS = {
    "macs": "--max-macs",
    "parameters": "--max-params",
    "bytes": "--max-bytes",
    "activations": "--max-activations",
    "latency": "--max-latency",
}
"""Quantity of Cost -> the option that limits it."""


@dataclass(frozen=True)
class Limit:
    """At most `amount` of a quantity of Cost; `given` is what the user asked for."""

    option: str
    quantity: str
    amount: float
    given: float | int

    def holds(self, cost: Cost) -> bool:
        return bool(getattr(cost, self.quantity) <= self.amount)


def limited(budget: Budget) -> dict[str, float | int]:
    """The quantities of Cost that a budget limits, with what it gives for them."""
    given = {
        "macs": budget.max_macs,
        "parameters": budget.max_parameters,
        "bytes": budget.max_bytes,
        "activations": budget.max_activations,
        "latency": budget.max_latency,
    }
    return {quantity: limit for quantity, limit in given.items() if limit is not None}


def limits(budget: Budget, dense: Cost) -> list[Limit]:
    """The budget's limits as amounts. Raises SettingError for what is neither a share nor an amount."""
    found = []
    for quantity, given in limited(budget).items():
        option = OPTIONS[quantity]
        is_share = isinstance(given, float) and given <= 1
        is_amount = not is_share and quantity != "latency" and given > 0 and int(given) == given
        if isinstance(given, bool) or not given > 0 or not (is_share or is_amount):
            raise SettingError(
                f"{option} is {given}", remedy="give a share to keep (a float above 0, at most 1.0) or an amount"
            )
        found.append(Limit(option, quantity, given * getattr(dense, quantity) if is_share else given, given))
    return found


def _spell(limit: Limit, amount: float) -> str:
    return f"{amount:.3g} ms" if limit.quantity == "latency" else spell(amount)


def unreachable(limits: Sequence[Limit], least: Cost, dense: Cost) -> BudgetError:
    """The error that says how far one gets: `least` is the cost with every group at its minimum."""
    parts = []
    for limit in limits:
        if not limit.holds(least):
            remains, whole = getattr(least, limit.quantity), getattr(dense, limit.quantity)
            parts.append(
                f"{limit.option} allows {_spell(limit, limit.amount)} of {_spell(limit, whole)} {limit.quantity}, and "
                f"{_spell(limit, remains)} ({remains / whole:.1%}) remain with every group at its minimum"
            )
    return BudgetError(
        "; ".join(parts),
        remedy="raise the budget to that, lower --round-to or --min-keep, or let more groups be pruned "
        "(--only, --ignore, --scope, --exact-only; `onnxprune inspect` says what is frozen and why)",
    )
