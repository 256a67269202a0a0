"""Search for an order of columns in which 2:4 keeps more: swaps, every gain exact; no other pattern is served.

Few columns are searched by tabu search with all gains at hand (tabu.py), many by annealing (anneal.py). Pool and Yu
2021 (NVIDIA's ASP) search the same swaps with a GPU's help.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from onnxprune.sparsity.anneal import annealed
from onnxprune.sparsity.groups import GROUP, kept_by_2_4
from onnxprune.sparsity.tabu import searched

_SMALL = 160  # columns up to which the gains of all swaps are at hand
_SPEED = 1e9  # sums of two that are looked at in a second, at the least
_ROUNDS = 200  # of annealing, at the least
_LEAST_ROWS = 64


@dataclass(frozen=True)
class Order:
    """`order[i]` is the column that comes to place i; `before` and `after` what 2:4 keeps of the scores."""

    order: np.ndarray
    before: float
    after: float


def best_order(columns: np.ndarray, seconds: float = 1.0, seed: int = 0) -> Order:
    """The best order found in that time for scores [columns, rows], not negative. What fills no group stays in place.

    The same seed searches the same way; how far it gets depends on the time. Never worse than no change.
    """
    started = time.perf_counter()
    count = len(columns)
    whole = count // GROUP * GROUP
    identity = np.arange(count)
    before = kept_by_2_4(columns)
    if whole < 2 * GROUP or not columns.any():
        return Order(identity, before, before)
    rng = np.random.default_rng(seed)
    rows = max(_LEAST_ROWS, int(seconds * _SPEED / (whole * _SMALL if whole <= _SMALL else _ROUNDS * 4 * whole)))
    if columns.shape[1] > rows:  # the search would hardly begin with all of them
        columns_seen = columns[:whole, np.sort(rng.choice(columns.shape[1], rows, replace=False))]
    else:
        columns_seen = columns[:whole]
    scores = np.ascontiguousarray(columns_seen, np.float32)
    deadline = started + seconds
    found = annealed(scores, rng, started, deadline) if whole > _SMALL else searched(scores, rng, deadline)
    order = np.concatenate([found, identity[whole:]])
    after = kept_by_2_4(columns[order])
    return Order(order, before, after) if after > before else Order(identity, before, before)
