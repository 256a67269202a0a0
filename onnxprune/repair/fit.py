"""Ridge regression of a layer's weights from moments, with the ridge chosen on samples that were held back.

The rows x that a layer reads in the pruned model and the targets t that it should give are known by their moments.
The weights are W = W0 + (S + r d I)⁻¹ (C - S W0), S being the second moments of x, C those of x and t, d the mean of
S's diagonal, W0 the weights before, and r the ridge: infinite, nothing changes. With a bias that is free, S and C are
taken around the means, and the bias makes up for what is left of these.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxprune.runtime.aimed import Moments

RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0)
_SMALL, _WORTH = 1e-2, 0.9
"""A ridge below the first has to leave less than this share of what the first leaves. Few samples that are held back
hardly tell them apart, and the smaller one learns the others by heart, which layers behind rely on."""

GAIN = 1e-4  # of the error: what a fit must better the weights before by, on samples held back
_NOISE = 1e-6  # of the target's mean square: what products in float32 cannot tell from nothing
DEAD = 1e-30  # a mean square below it is of inputs that are never there


@dataclass(frozen=True)
class Fit:
    """New `weight` [g, D, K] and `bias` [g, K]; `ridge` None where the weights before were kept.

    `before` and `after` are errors on the samples held back, as shares of the target's variance.
    """

    weight: np.ndarray
    bias: np.ndarray
    ridge: float | None
    before: float
    after: float


def fit(train: Moments, held: Moments, weight: np.ndarray, bias: np.ndarray, *, free_bias: bool) -> Fit:
    """The weights that suit the target best, or those before where no ridge betters them on `held`.

    `weight` [g, D, K] and `bias` [g, K] are those before. What is held back only judges: were it fitted to in the end,
    it would look better than it is in all layers behind, whose ridges would then be too small (docs/measured.md).
    """
    scale = held.spread or 1.0
    before = held.share(weight, bias)
    if not before > _NOISE * held.energy / scale:
        return Fit(weight, bias, None, before, before)
    solver = Solver(train, weight, bias, free_bias)

    def error(ridge: float) -> float:
        found = held.error(*solver.at(ridge)) / scale
        return max(found, 0.0) if np.isfinite(found) else np.inf

    known = {np.inf: error(np.inf) if free_bias else before}
    at = len(RIDGES) // 2
    while True:  # downhill: as the ridge grows, the error falls, and then rises
        near = [n for n in (at - 1, at, at + 1) if 0 <= n < len(RIDGES)]
        known |= {RIDGES[n]: error(RIDGES[n]) for n in near if RIDGES[n] not in known}
        lowest = min(near, key=lambda n: known[RIDGES[n]])
        if lowest == at:
            break
        at = lowest
    best = min(known, key=lambda ridge: known[ridge])
    if best < _SMALL and known[best] >= _WORTH * known[_SMALL]:  # known: the way down has passed it
        best = _SMALL
    if known[best] > before * (1 - GAIN):
        return Fit(weight, bias, None, before, before)
    return Fit(*solver.at(best), float(best), before, known[best])


class Solver:
    """Solutions at any ridge, which holds on to the weights before."""

    def __init__(self, moments: Moments, weight: np.ndarray, bias: np.ndarray, free_bias: bool) -> None:
        self._moments, self._weight, self._bias, self._free = moments, weight, bias, free_bias
        second, cross = moments.second, moments.cross
        if free_bias:
            second = second - moments.mean[:, :, None] * moments.mean[:, None, :]
            cross = cross - moments.mean[:, :, None] * moments.target_mean[:, None, :]
        else:
            cross = cross - moments.mean[:, :, None] * bias[:, None, :]
        self._second, self._missing = second, cross - second @ weight
        level = np.einsum("gdd->g", second) / second.shape[1]
        self._level = np.where(level > DEAD, level, 1.0)  # of inputs that are never there, nothing is missing either
        self._inverses: dict[float, np.ndarray] = {}

    def at(self, ridge: float) -> tuple[np.ndarray, np.ndarray]:
        """(weight, bias)."""
        weight = self._weight
        if np.isfinite(ridge):
            weight = weight + np.linalg.solve(self._damped(ridge), self._missing)
        if not self._free:
            return weight, self._bias
        return weight, self._moments.target_mean - np.einsum("gdk,gd->gk", weight, self._moments.mean)

    def step(self, missing: np.ndarray, weight: np.ndarray, ridge: float) -> np.ndarray:
        """What to add to `weight` [g, D, K], which lacks `missing` [g, D, K]: the mean over rows of x rᵀ."""
        if not np.isfinite(ridge):
            return np.zeros_like(weight)
        if ridge not in self._inverses:
            self._inverses[ridge] = np.linalg.inv(self._damped(ridge))
        pull = ridge * self._level[:, None, None] * (weight - self._weight)
        return np.asarray(self._inverses[ridge] @ (missing - pull))

    def _damped(self, ridge: float) -> np.ndarray:
        damped = self._second.copy()
        diagonal = np.arange(damped.shape[1])
        damped[:, diagonal, diagonal] += ridge * self._level[:, None]
        return damped
