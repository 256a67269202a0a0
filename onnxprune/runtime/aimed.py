"""Moments of rows x and of the targets t that they should give: all that least squares needs of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

_FLAT = 1e-9  # of the target's mean square: a variance below it is none


@dataclass(frozen=True)
class Moments:
    """Means over `rows` rows, by block: `second` [g, D, D] of x xᵀ, `mean` [g, D] of x, `cross` [g, D, K] of x tᵀ,
    `target_mean` [g, K] and `target_second` [g, K] of t and its squares (all float64).
    """

    second: np.ndarray
    mean: np.ndarray
    cross: np.ndarray
    target_mean: np.ndarray
    target_second: np.ndarray
    rows: int

    @classmethod
    def of(cls, found: Mapping[str, np.ndarray]) -> Moments:
        """From what RowProducts gives; where it has seen no aims, there are no outputs and no rows."""
        names = ("cross", "target_mean", "target_second")
        cross, mean, second = (found.get(name, np.zeros((1, 0))) for name in names)
        rows = int(found["rows"]) if "cross" in found else 0
        return cls(found["second"], found["mean"], cross, mean, second, rows)

    def __add__(self, other: Moments) -> Moments:
        rows = self.rows + other.rows

        def both(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
            return np.asarray((self.rows * mine + other.rows * theirs) / max(rows, 1))

        return Moments(
            both(self.second, other.second), both(self.mean, other.mean), both(self.cross, other.cross),
            both(self.target_mean, other.target_mean), both(self.target_second, other.target_second), rows,
        )  # fmt: skip

    def error(self, weight: np.ndarray, bias: np.ndarray) -> float:
        """The mean square of what x W + b misses of t, summed over outputs."""
        predicted = np.einsum("gdk,gdk->", self.second @ weight, weight)
        shift = 2 * np.einsum("gk,gk->", bias, np.einsum("gdk,gd->gk", weight, self.mean) - self.target_mean)
        shared = 2 * np.einsum("gdk,gdk->", self.cross, weight)
        return float(predicted - shared + shift + (bias**2).sum() + self.target_second.sum())

    def share(self, weight: np.ndarray, bias: np.ndarray) -> float:
        """The same as a share of the target's variance."""
        return max(self.error(weight, bias) / (self.spread or 1.0), 0.0)

    @property
    def energy(self) -> float:
        """The mean square of t, summed over outputs."""
        return float(self.target_second.sum())

    @property
    def spread(self) -> float:
        """The variance of t, summed over outputs; its mean square where it does not vary."""
        variance = float(np.maximum(self.target_second - self.target_mean**2, 0).sum())
        return variance if variance > _FLAT * self.energy else self.energy
