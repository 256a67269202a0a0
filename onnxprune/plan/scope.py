"""Which groups a plan may touch, and at which ratio where the user gave them one of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from onnxprune.coupling.coupling import Coupling
from onnxprune.errors import SettingError
from onnxprune.plan.patterns import Names
from onnxprune.types import KINDS, Group


def groups_in_scope(
    coupling: Coupling,
    *,
    only: Collection[str] = (),
    ignore: Collection[str] = (),
    scope: Collection[str] | None = None,
    exact_only: bool = False,
) -> list[Group]:
    """The groups that `only` names (all, if it is empty) and `ignore` does not, of a kind in `scope`, exact if told.

    Raises SettingError for a pattern that names nothing, an unknown kind, and kinds of which the model has no group.
    """
    names = Names(coupling)
    chosen = set(range(len(coupling.groups)))
    if only:
        chosen = set().union(*(names.touched(pattern, "--only") for pattern in only))
    for pattern in ignore:
        chosen -= names.touched(pattern, "--ignore", frozen_is_fine=True)
    if scope is not None:
        _check_scope(coupling, scope)
    return [
        group
        for group in coupling.groups
        if group.index in chosen and (scope is None or group.kind in scope) and (group.exact or not exact_only)
    ]


def ratios_by_group(coupling: Coupling, ratios: Mapping[str, float]) -> dict[int, float]:
    """Group index -> its own ratio, of the last pattern that names the group or a layer that makes its units.

    Raises SettingError for a pattern that names nothing and a ratio outside 0 to 1.
    """
    names = Names(coupling)
    found: dict[int, float] = {}
    for pattern, ratio in ratios.items():
        check_ratio(ratio, f"--layer-ratio for {pattern!r}")
        found.update(dict.fromkeys(names.made(pattern, "--layer-ratio"), ratio))
    return found


def check_ratio(ratio: float, what: str) -> None:
    """Raises SettingError unless 0 <= ratio < 1."""
    if not 0 <= ratio < 1:
        raise SettingError(
            f"{what} is {ratio}", remedy="it is the share of units to remove: from 0 up to, not including, 1"
        )


def _check_scope(coupling: Coupling, scope: Collection[str]) -> None:
    if isinstance(scope, str) or not scope or not set(scope) <= set(KINDS):
        wrong = scope if isinstance(scope, str) else ", ".join(sorted(set(scope) - set(KINDS))) or "nothing"
        raise SettingError(f"--scope: {wrong!r} is no set of kinds", remedy=f"kinds are {', '.join(KINDS)}")
    there = Counter(group.kind for group in coupling.groups)
    if there and not set(scope) & set(there):
        listed = ", ".join(f"{kind} ({count})" for kind, count in there.items())
        raise SettingError(
            f"--scope: the model has no group of kind {' or '.join(sorted(scope))}", remedy=f"it has {listed}"
        )
