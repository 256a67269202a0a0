"""Least squares for a layer in front of a Relu or Clip, which hides how far its targets lie beyond the bounds.

Where the target is within the bounds, the layer should give it; where the target is beyond one, anything beyond that
bound will do. The loss is convex, and below the plain one plus what is hidden: each round solves the plain problem
with the hidden targets moved to where the layer's output is, if that is beyond the bound, too (majorisation), with
Nesterov's momentum between the rounds. Only products with the targets change, so one inverse serves all rounds.

Beck, Teboulle, "A Fast Iterative Shrinkage-Thresholding Algorithm", SIAM J. Imaging Sciences 2 (2009); Zhang et al.,
"Accelerating Very Deep Convolutional Networks for Classification and Detection", IEEE TPAMI 2016, arXiv:1505.06798,
fit to outputs behind the Relu.
"""

from __future__ import annotations

import numpy as np

from onnxprune.repair.fit import GAIN, Fit, Solver
from onnxprune.runtime.aimed import Moments
from onnxprune.runtime.bounds import Bounds
from onnxprune.runtime.keeping import RowStore

ROUNDS = 8

Weights = tuple[np.ndarray, np.ndarray]
"""Weight [g, D, K] and bias [g, K] (float64)."""


def fit_behind(
    bounds: Bounds, samples: tuple[RowStore, RowStore], moments: Moments, before: Weights, linear: Fit, *,
    free_bias: bool,
) -> Fit:  # fmt: skip
    """Better weights than those of the plain fit `linear`, or `linear`, or `before`: what does best behind the bounds.

    `samples` are those fitted to, whose moments are given, and those held back to judge by. The errors of what is given
    back are behind the bounds, as shares of the clipped target's variance.
    """
    if linear.ridge is None:
        return linear
    train, held = samples
    plain = linear.weight, linear.bias
    tried = _rounds(bounds, train, moments, before, plain, linear.ridge, free_bias)
    scale = _spread(bounds, held)
    errors = [_error(bounds, held, weights) / scale for weights in (before, plain, tried)]
    if min(errors[1:]) > errors[0] * (1 - GAIN):
        return Fit(*before, None, errors[0], errors[0])
    if errors[2] > errors[1] * (1 - GAIN):
        return Fit(*plain, linear.ridge, errors[0], errors[1])
    return Fit(*tried, linear.ridge, errors[0], errors[2])


def share_behind(bounds: Bounds, samples: RowStore, weight: np.ndarray, bias: np.ndarray) -> float:
    """The error that weights leave behind the bounds, as a share of the clipped target's variance."""
    return _error(bounds, samples, (weight, bias)) / _spread(bounds, samples)


def _rounds(
    bounds: Bounds, samples: RowStore, moments: Moments, before: Weights, start: Weights, ridge: float, free_bias: bool
) -> Weights:  # fmt: skip
    solver = Solver(moments, *before, free_bias)
    weight, bias = start
    here = ahead = weight
    there_bias = bias
    for number in range(ROUNDS):
        cross, mean = _missing(bounds, samples, ahead, there_bias, moments.mean if free_bias else None)
        last, here = here, ahead + solver.step(cross, ahead, ridge)
        last_bias = bias
        if free_bias:
            bias = there_bias + mean - np.einsum("gdk,gd->gk", here - ahead, moments.mean)
        share = number / (number + 3)
        ahead = here + share * (here - last)
        there_bias = bias + share * (bias - last_bias)
    return here, bias


def _missing(
    bounds: Bounds, samples: RowStore, weight: np.ndarray, bias: np.ndarray, centre: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Means over rows of x rᵀ (around `centre` [g, D] if given) and of r, what the weights lack behind the bounds."""
    cross, mean, count = np.zeros_like(weight), np.zeros_like(bias), 0
    weight, bias = weight.astype(np.float32), bias.astype(np.float32)
    for rows, aims, added in samples:
        lacks = _lacking(bounds, rows, aims, added, weight, bias)
        cross += np.matmul(rows.transpose(0, 2, 1), lacks)
        mean += lacks.sum(axis=1, dtype=np.float64)
        count += rows.shape[1]
    cross, mean = cross / max(count, 1), mean / max(count, 1)
    if centre is not None:
        cross -= centre[:, :, None] * mean[:, None, :]
    return cross, mean


def _lacking(
    bounds: Bounds, rows: np.ndarray, aims: np.ndarray, added: np.ndarray | None, weight: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    given = np.matmul(rows, weight) + bias[:, None, :]
    return bounds.missing(given, aims) if added is None else bounds.missing(given + added, aims + added)


def _error(bounds: Bounds, samples: RowStore, weights: Weights) -> float:
    """The mean square of what is missing behind the bounds, summed over outputs."""
    weight, bias = (array.astype(np.float32) for array in weights)
    total, count = 0.0, 0
    for rows, aims, added in samples:
        given = np.matmul(rows, weight) + bias[:, None, :]
        if added is not None:
            given, aims = given + added, aims + added
        total += float(((bounds.clip(given) - bounds.clip(aims)) ** 2).sum(dtype=np.float64))
        count += rows.shape[1]
    return total / max(count, 1) if np.isfinite(total) else np.inf


def _spread(bounds: Bounds, samples: RowStore) -> float:
    """The variance of the clipped target, summed over outputs; 1 where it does not vary."""
    count, mean, square = 0, np.zeros(()), 0.0
    for _, aims, added in samples:
        clipped = bounds.clip(aims if added is None else aims + added)
        mean = mean + clipped.sum(axis=1, dtype=np.float64)
        square += float((clipped**2).sum(dtype=np.float64))
        count += clipped.shape[1]
    variance = square / max(count, 1) - float(((mean / max(count, 1)) ** 2).sum())
    return variance if variance > 0 else 1.0
