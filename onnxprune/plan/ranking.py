"""From one share to a number of units per group: the same share everywhere, or one threshold through many of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np

from onnxprune.plan.choices import Choice

Ranking = Callable[[float], tuple[int, ...]]
"""Share to remove (0 to 1) -> how many units of each choice stay. Never rises as the share grows."""


def ranking_called(name: str, choices: Sequence[Choice]) -> Ranking:
    """The ranking called `name`, one of RANKINGS."""
    return RANKINGS[name](choices)


def _local(choices: Sequence[Choice]) -> Ranking:
    """Every group gives the same share of its units, or its own."""

    def kept(share: float) -> tuple[int, ...]:
        return tuple(c.counts.nearest(c.counts.size * (1 - (share if c.ratio is None else c.ratio))) for c in choices)

    return kept


def _global(choices: Sequence[Choice]) -> Ranking:
    """The lowest scores of all groups together go. Groups with a ratio of their own stand aside."""
    return _pooled(choices, [0] * len(choices))


def _isomorphic(choices: Sequence[Choice]) -> Ranking:
    """The lowest scores of all groups that are built alike go, the same share of each such pool.

    Fang et al., "Isomorphic Pruning for Vision Models", ECCV 2024, arXiv:2407.04616.
    """
    return _pooled(choices, [c.structure for c in choices])


def _pooled(choices: Sequence[Choice], keys: Sequence[Hashable]) -> Ranking:
    """The lowest scores of all groups with an equal key go. Groups with a ratio of their own stand aside."""
    pools: dict[Hashable, list[int]] = {}
    for k, choice in enumerate(choices):
        if choice.ratio is None:
            pools.setdefault(keys[k], []).append(k)
    worst_first = [_worst_first(choices, pool) for pool in pools.values()]
    local = _local(choices)

    def kept(share: float) -> tuple[int, ...]:
        first = [owners[: round(share * len(owners))] for owners in worst_first]
        gone = np.bincount(np.concatenate([np.empty(0, np.int64), *first]), minlength=len(choices))
        return tuple(
            c.counts.nearest(c.counts.size - int(gone[k])) if c.ratio is None else own
            for k, (c, own) in enumerate(zip(choices, local(0), strict=True))
        )

    return kept


def _worst_first(choices: Sequence[Choice], pool: Sequence[int]) -> np.ndarray:
    """The choice that each unit of the pool belongs to, from the lowest score up."""
    owners = np.repeat(np.asarray(pool, np.int64), [choices[k].counts.size for k in pool])
    order = np.argsort(np.concatenate([choices[k].scores for k in pool]), kind="stable")
    return np.asarray(owners[order])


RANKINGS: dict[str, Callable[[Sequence[Choice]], Ranking]] = {
    "local": _local,
    "global": _global,
    "isomorphic": _isomorphic,
}
