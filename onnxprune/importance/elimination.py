"""Backward elimination: which units to drop one after the other, when what stays may make up for what goes.

The rows x of a product give x W. Without the features F, and with the other weights re-fitted by least squares, the
error grows by tr(W_Fᵀ [(H⁻¹)_FF]⁻¹ W_F), H being the second moments of x: the Optimal Brain Surgeon's saliency of many
weights at once. The weights that make up for it, and H⁻¹ of what is left, follow by the same block.

Hassibi, Stork, "Second order derivatives for network pruning: Optimal Brain Surgeon", NeurIPS 1992; of columns and
with the update of H⁻¹ in Frantar, Alistarh, "Optimal Brain Compression", NeurIPS 2022, arXiv:2208.11580, and for heads
and hidden units in Kurtic et al., "ZipLM", NeurIPS 2023, arXiv:2302.04089.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

STEPS = 128  # units of one group go in at most about so many steps, several at a time where there are more
_SOLVED = 1 << 24  # elements of right-hand sides that are solved for at a time


@dataclass
class Part:
    """One product that feels the units: `features[u]` are the rows of `weight` that go with unit u (none for many).

    `second` [D, D] holds the moments of x, well conditioned; `weight` [D, K]. Errors are shares of the whole output.
    """

    second: np.ndarray
    weight: np.ndarray
    features: Sequence[np.ndarray]

    def __post_init__(self) -> None:
        energy = float(np.einsum("dk,dk->", self.second @ self.weight, self.weight))
        self._scale = 1 / energy if energy > 0 else 0.0
        self._inverse = np.linalg.inv(self.second)
        self._weight = self.weight.astype(np.float64, copy=True)
        self._sizes = np.array([len(f) for f in self.features])

    def costs(self, alive: np.ndarray) -> np.ndarray:
        """For each unit in `alive` (numbers) the share of the output that is lost with it now (float64)."""
        found = np.zeros(len(alive))
        for size in np.unique(self._sizes[alive]).tolist():
            if not size or not self._scale:
                continue
            mine = np.flatnonzero(self._sizes[alive] == size)
            step = max(1, _SOLVED // (size * self._weight.shape[1]))
            for start in range(0, len(mine), step):
                some = mine[start : start + step]
                rows = np.stack([self.features[u] for u in alive[some]])
                found[some] = self._saliency(rows)
        return found * self._scale

    def _saliency(self, rows: np.ndarray) -> np.ndarray:
        """tr(W_Fᵀ [(H⁻¹)_FF]⁻¹ W_F) for each of several F [units, features]."""
        weight = self._weight[rows]
        if rows.shape[1] == 1:
            return np.asarray(np.einsum("uik,uik->u", weight, weight) / self._inverse[rows[:, 0], rows[:, 0]])
        block = self._inverse[rows[:, :, None], rows[:, None, :]]
        return np.asarray(np.einsum("uik,uik->u", weight, np.linalg.solve(block, weight)))

    def drop(self, units: Sequence[int]) -> float:
        """Remove units, adjust the other weights; gives the share of the output that is lost with them together."""
        gone = np.unique(np.concatenate([self.features[u] for u in units]))
        if not len(gone) or not self._scale:
            return 0.0
        column, block = self._inverse[:, gone], self._inverse[np.ix_(gone, gone)]
        weight = self._weight[gone]
        adjusted = np.linalg.solve(block, weight)
        lost = float(np.einsum("dk,dk->", weight, adjusted))
        self._weight -= column @ adjusted
        self._inverse -= column @ np.linalg.solve(block, column.T)
        self._weight[gone] = 0
        self._inverse[gone] = 0
        self._inverse[:, gone] = 0
        self._inverse[gone, gone] = 1  # never read again, and no block is singular
        return max(lost, 0.0) * self._scale


@dataclass(frozen=True)
class Elimination:
    """`order`: the units from the first to go to the last; `lost[i]`: what is lost once order[i] is gone, too."""

    order: np.ndarray
    lost: np.ndarray


def eliminate(size: int, parts: Sequence[Part], fixed: np.ndarray | None = None) -> Elimination:
    """Drop `size` units one after the other, each time those with the least loss over all parts.

    `fixed` [size] is what each loses elsewhere, whatever else is gone. The parts are used up.
    """
    elsewhere = np.zeros(size) if fixed is None else fixed
    alive = np.arange(size)
    at_once = max(1, -(-size // STEPS))
    order: list[int] = []
    lost: list[float] = []
    total = 0.0
    while len(alive):
        costs = elsewhere[alive] + sum((part.costs(alive) for part in parts), np.zeros(len(alive)))
        chosen = np.argsort(costs, kind="stable")[:at_once]
        units = alive[chosen].tolist()
        together = float(elsewhere[units].sum()) + sum(part.drop(units) for part in parts)
        share = np.cumsum(costs[chosen])
        lost += (total + together * (share / share[-1] if share[-1] > 0 else np.linspace(0, 1, len(chosen)))).tolist()
        total += together
        order += units
        alive = np.delete(alive, chosen)
    return Elimination(np.asarray(order, np.int64), np.asarray(lost))
