"""A layer's moments as its fit needs them: in units of its product, around the means, damped."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from onnxprune.runtime.aimed import Moments
from onnxprune.runtime.following import Followed
from onnxprune.sparsity.fit import least_squares, loss
from onnxprune.sparsity.layers import Layer

_TINY = 1e-30  # where nothing but zeros flows

DAMPINGS = (1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Those that are tried on the half of the samples that a fit has not seen."""

DEFAULT = 0.01
"""Where there are no two halves."""

_OUTPUTS = 24  # of a layer, at which dampings are compared


@dataclass(frozen=True)
class Sums:
    """Moments of a layer in units of its product: the gain divided out, a bias that cannot change taken off."""

    second: np.ndarray
    mean: np.ndarray
    cross: np.ndarray
    target_mean: np.ndarray
    target_second: np.ndarray
    gain: float
    centred: bool

    @classmethod
    def of(cls, layer: Layer, moments: Moments) -> Sums:
        gain, bias = layer.consumer.gain, layer.bias
        centred = bias is not None and bias.is_own and bias.values.size == moments.target_mean.size
        cross, mean, second = moments.cross, moments.target_mean, moments.target_second
        if bias is not None and not centred:
            offset = np.broadcast_to(bias.values, mean.size).reshape(mean.shape)
            second = second - 2 * offset * mean + offset**2
            cross = cross - moments.mean[:, :, None] * offset[:, None, :]
            mean = mean - offset
        return cls(moments.second, moments.mean, cross / gain, mean, second, gain, centred)

    def moved(self, cross: np.ndarray, mean: np.ndarray) -> Sums:
        """With targets that differ by something of these moments: `cross` [groups, D, K] of x with it, and its mean."""
        return replace(self, cross=self.cross + cross / self.gain, target_mean=self.target_mean + mean)

    def plain(self, block: int, *, centred: bool) -> tuple[np.ndarray, np.ndarray]:
        """H and C of a block, around the means if `centred`."""
        h, c = self.second[block], self.cross[block]
        if centred:
            h = h - np.outer(self.mean[block], self.mean[block])
            c = c - np.outer(self.mean[block], self.target_mean[block] / self.gain)
        return h, c

    def damped(self, block: int, w: np.ndarray, damping: float, *, centred: bool) -> tuple[np.ndarray, np.ndarray]:
        """The same with the diagonal raised and C drawn towards `w`."""
        h, c = self.plain(block, centred=centred)
        raised = damping * max(float(np.diag(h).mean()), _TINY)
        return h + raised * np.eye(len(h)), c + raised * w

    def bias(self, w: np.ndarray) -> np.ndarray:
        """What the means leave, [groups, R]."""
        return np.asarray(self.target_mean - self.gain * np.einsum("gd,gdr->gr", self.mean, w))

    def error(self, w: np.ndarray) -> float:
        """The share of the targets' variance that is not met; the best bias is counted in where there is one."""
        variance = self.target_second - self.target_mean**2
        h, c, whole = self.second, self.cross, self.target_second
        if self.centred:
            h = h - self.mean[:, :, None] * self.mean[:, None, :]
            c = c - self.mean[:, :, None] * self.target_mean[:, None, :] / self.gain
            whole = variance
        left = whole.sum() + self.gain**2 * (np.einsum("gdr,gde,ger->", w, h, w, optimize=True) - 2 * (c * w).sum())
        return float(max(left, 0) / max(float(variance.sum()), _TINY))


def best_damping(layer: Layer, moments: Followed, dense: np.ndarray, masks: np.ndarray | None) -> float:
    """Of DAMPINGS that with which fits to one half of the samples meet the other half best.

    `dense` [groups, D, R] are the weights that fits are drawn to, `masks` which of them stay (None: all). What is
    fitted must be what will be: without a mask the dense weights themselves are hard to beat. Half of it, as the fit
    will have twice the samples; DEFAULT where there are no two halves.
    """
    if moments.halves is None:
        return DEFAULT
    halves = [Sums.of(layer, half) for half in moments.halves]
    losses = np.zeros(len(DAMPINGS))
    for block, w in enumerate(dense):
        some = np.linspace(0, w.shape[1] - 1, min(w.shape[1], _OUTPUTS)).astype(np.int64)
        mask = None if masks is None else masks[block][:, some]
        parts = [half.plain(block, centred=half.centred) for half in halves]
        problems = [(h, c[:, some]) for h, c in parts]
        for fitted, held in (problems, problems[::-1]):
            losses += _losses(fitted, held, w[:, some], mask)
    return DAMPINGS[int(losses.argmin())] / 2


def _losses(
    fitted: tuple[np.ndarray, np.ndarray], held: tuple[np.ndarray, np.ndarray], w: np.ndarray, mask: np.ndarray | None
) -> np.ndarray:
    """The held-out loss by damping, but for a constant."""
    h, c = fitted
    values, vectors = np.linalg.eigh(h) if mask is None else (np.diag(h), h)
    scale = max(float(values.mean()), _TINY)
    found = []
    for damping in DAMPINGS:
        raised = damping * scale
        if mask is None:  # all fits from one decomposition
            fit = vectors @ ((vectors.T @ (c + raised * w)) / (np.maximum(values, 0) + raised)[:, None])
        else:
            fit = least_squares(h + raised * np.eye(len(h)), c + raised * w, mask)
        found.append(loss(*held, fit))
    return np.asarray(found)
