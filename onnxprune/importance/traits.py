"""What a criterion says of itself beside its numbers: the statistics it needs, and how its scores compare.

    @criterion("flap")
    @traits(needs=("mean", "second"))
    def flap(coupling: Coupling, context: Context) -> list[np.ndarray | Unscored]: ...

A criterion that says nothing needs no data, and its scores are divided by each group's mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Traits:
    """`needs`: kinds of statistics (runtime/statistics.py), which calibration then collects. `normalise`: the
    normalisation that its scores are meant for, where the user names none (importance/normalise.py).
    """

    needs: frozenset[str] = frozenset()
    normalise: str = "mean"


@dataclass(frozen=True)
class Unscored:
    """Stands in for the scores of a group that a criterion cannot judge, and says why. A plan leaves it whole."""

    why: str


_TRAITS: dict[Callable[..., Any], Traits] = {}


def traits(*, needs: Iterable[str] = (), normalise: str = "mean") -> Callable[[Function], Function]:
    """Give the decorated criterion traits."""

    def note(function: Function) -> Function:
        _TRAITS[function] = Traits(frozenset(needs), normalise)
        return function

    return note


def traits_of(function: Callable[..., Any]) -> Traits:
    """The traits of a criterion."""
    return _TRAITS.get(function, Traits())
