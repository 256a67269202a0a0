"""How far a model's outputs are from the dense model's: one number, additive over outputs, 0 where they are equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_FLOOR = 1e-12
_MATRIX = 2
_CLASSES = 2  # at the least


@dataclass(frozen=True)
class Reference:
    """The dense model's outputs on some samples, one array (or list of arrays) a batch.

    Of an output it is the mean square difference as a share of the variance; of an output [N, K] whose rows are
    probabilities it is the Kullback-Leibler divergence from the dense model's (in nats, mean over rows). Scores of
    classes are no exception: how their probabilities move is told by the few samples that the dense model is in doubt
    about, how they move themselves by all. Integers and the like say nothing, nor do places where the dense model's is
    infinite (a masked score) and the other's is the same.
    """

    batches: Sequence[Sequence[np.ndarray]]

    def divergence(self, found: Sequence[Sequence[np.ndarray]]) -> float:
        """Of the same samples in the same batches. Infinite where an output is not finite or of another shape."""
        total = 0.0
        for position in range(len(self.batches[0]) if self.batches else 0):
            dense, other = [outputs[position] for outputs in self.batches], [outputs[position] for outputs in found]
            if not all(isinstance(array, np.ndarray | np.generic) for array in dense):
                continue  # sequences and maps
            if [array.shape for array in dense] != [np.shape(array) for array in other]:
                return float("inf")
            total += _divergence(_joined(dense), _joined(other))
        return total


def _joined(batches: Sequence[np.ndarray]) -> np.ndarray:
    """Batches end to end; flat where they differ in more than their first axis, or have none."""
    if len({array.shape[1:] for array in batches}) > 1 or not batches[0].ndim:
        batches = [array.reshape(-1) for array in batches]
    return np.concatenate(batches)


def _divergence(dense: np.ndarray, other: np.ndarray) -> float:
    if dense.dtype.kind not in "fV" or not dense.size:
        return 0.0
    dense, other = dense.astype(np.float64), other.astype(np.float64)
    stuck = ~np.isfinite(dense)
    if not np.isfinite(other[~stuck]).all() or not np.array_equal(dense[stuck], other[stuck], equal_nan=True):
        return float("inf")
    if _are_probabilities(dense):
        p, q = (np.log(np.maximum(shares, _FLOOR)) for shares in (dense, other))
        return float((dense * (p - q)).sum(axis=1).mean())
    dense, other = dense[~stuck], other[~stuck]
    if not dense.size:
        return 0.0
    return float(((dense - other) ** 2).mean() / max(float(dense.var()), _FLOOR))


def _are_probabilities(rows: np.ndarray) -> bool:
    if rows.ndim != _MATRIX or rows.shape[1] < _CLASSES:
        return False
    return bool((rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=1e-3))
