"""The table of importance criteria.

    @criterion("l2")
    def l2(coupling: Coupling, context: Context) -> Sequence[np.ndarray]: ...

A criterion gives, for every group in order, one number per unit: the larger, the more is lost with the unit. Other
packages add theirs through the entry point `onnxprune.importance`, whose object or module registers on being loaded.

A criterion may also say what each block's member of a unit matters (coupling/balance.py), so that every head, or group
of a convolution, can lose members of its own:

    @by_block("l2", total=np.sqrt)
    def l2(coupling: Coupling, context: Context) -> Mapping[int, np.ndarray]: ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.errors import SettingError
from onnxprune.importance.traits import Unscored

FAMILIES = (
    "magnitude", "random", "blocks", "batch_norm", "lamp", "geometric_median", "activations", "consumption",
    "gradients", "reconstruction",
)  # fmt: skip
ENTRY_POINT = "onnxprune.importance"


@dataclass(frozen=True)
class Context:
    """What a criterion may use beside the model: `seed` for what it draws, `data` by name.

    `data` holds what the caller measured (statistics of activations, gradients, latencies) as plain data, and is
    empty for criteria that look at the weights alone. `aggregate` says how what a unit has at several places becomes
    one number (importance/tally.py).
    """

    seed: int = 0
    data: Mapping[str, Any] = field(default_factory=dict)
    aggregate: str = "sum"


Criterion = Callable[[Coupling, Context], Sequence[np.ndarray | Unscored]]

BlockCriterion = Callable[[Coupling, Context], Mapping[int, np.ndarray]]
"""For every group in `coupling.balance.balanced`, by index, an array [blocks, members] of parts of a unit's score."""

Total = Callable[[np.ndarray], np.ndarray]

_CRITERIA: dict[str, Criterion] = {}
_BY_BLOCK: dict[str, tuple[BlockCriterion, Total]] = {}


def criterion(name: str) -> Callable[[Criterion], Criterion]:
    """Register the decorated function under `name`. Raises ValueError on a duplicate."""

    def register(function: Criterion) -> Criterion:
        if name in _CRITERIA:
            raise ValueError(f"a criterion {name!r} exists already")
        _CRITERIA[name] = function
        return function

    return register


def by_block(name: str, total: Total = np.positive) -> Callable[[BlockCriterion], BlockCriterion]:
    """Register the decorated function as what the criterion `name` gives for each block.

    The parts of a unit, one from each block, add up, and `total` of the sum is the unit's score. Raises ValueError on
    a duplicate.
    """

    def register(function: BlockCriterion) -> BlockCriterion:
        if name in _BY_BLOCK:
            raise ValueError(f"the criterion {name!r} has parts by block already")
        _BY_BLOCK[name] = function, total
        return function

    return register


def find_by_block(name: str) -> tuple[BlockCriterion, Total] | None:
    """What is registered for the blocks under a criterion's name, None where there is nothing."""
    criteria()
    return _BY_BLOCK.get(name)


@cache
def criteria() -> Mapping[str, Criterion]:
    """All criteria by name: our own, then those of installed packages."""
    for family in FAMILIES:
        import_module(f"onnxprune.importance.{family}")
    for entry in entry_points(group=ENTRY_POINT):
        entry.load()
    return _CRITERIA


def find(name: str) -> Criterion:
    """The criterion registered under `name`. Raises SettingError with the names there are."""
    known = criteria()
    if name not in known:
        raise SettingError(f"there is no criterion {name!r}", remedy="there are: " + ", ".join(sorted(known)))
    return known[name]
