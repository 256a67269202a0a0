"""How near the outputs are to the dense model's: metrics that need no labels."""

from __future__ import annotations

import numpy as np

from onnxprune.runtime.metrics.metric import Metric, library, shape_error

_IMAGE_RANK = 4  # of [N, classes, height, width]


def _alike(name: str, predicted: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if predicted.shape != wanted.shape or predicted.dtype.kind not in "fiub" or predicted.ndim < 1:
        raise shape_error(name, predicted, wanted, "numbers of the same shape from both models")
    return predicted.astype(np.float64), wanted.astype(np.float64)


def _classes(array: np.ndarray) -> np.ndarray:
    """The axis of classes last: the second of images, else the last."""
    return np.moveaxis(array, 1, -1) if array.ndim >= _IMAGE_RANK else array


class Agreement(Metric):
    """Share of samples for which the highest score is the dense model's; of all places, where there are several."""

    name = "agreement"
    needs = "dense"
    is_share = True
    best = 1.0

    def parts(self, predicted: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Each sample's share of places that agree [N]."""
        mine, theirs = _alike(self.name, predicted, wanted)
        if mine.ndim < 2:
            raise shape_error(self.name, predicted, wanted, "scores [N, ..., classes]")
        same = _classes(mine).argmax(-1) == _classes(theirs).argmax(-1)
        return np.asarray(same.reshape(len(same), -1).mean(1))


class Cosine(Metric):
    """Cosine of each sample's output and the dense model's, and their mean; 1 where both are zero."""

    name = "cosine"
    needs = "dense"
    best = 1.0

    def parts(self, predicted: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Each sample's cosine [N]."""
        mine, theirs = (a.reshape(len(a), -1) for a in _alike(self.name, predicted, wanted))
        norms = np.linalg.norm(mine, axis=1) * np.linalg.norm(theirs, axis=1)
        products = (mine * theirs).sum(1)
        same = (mine == theirs).all(1)
        return np.where(same, 1.0, np.divide(products, norms, out=np.zeros_like(products), where=norms > 0))


class KullbackLeibler(Metric):
    """Mean divergence, in nats, of the softmax of the output from that of the dense model's."""

    name = "kl"
    unit = "nats"
    needs = "dense"
    best = 0.0
    higher_is_better = False

    def parts(self, predicted: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Each sample's mean over its places [N]."""
        mine, theirs = (_classes(a) for a in _alike(self.name, predicted, wanted))
        if mine.ndim < 2 or mine.shape[-1] < 2:
            raise shape_error(self.name, predicted, wanted, "logits [N, ..., classes]")
        log_softmax = library("scipy.special", "--metric kl").log_softmax
        p, q = log_softmax(theirs, -1), log_softmax(mine, -1)
        found = (np.exp(p) * (p - q)).sum(-1)
        return np.asarray(found.reshape(len(found), -1).mean(1))


class SignalToNoise(Metric):
    """Power of the dense model's outputs to that of the difference, in dB over all samples; infinite where equal."""

    name = "snr"
    unit = "dB"
    needs = "dense"
    best = float("inf")

    def parts(self, predicted: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Sums of squares of the dense outputs and of the difference [N, 2]."""
        mine, theirs = (a.reshape(len(a), -1) for a in _alike(self.name, predicted, wanted))
        return np.stack([(theirs**2).sum(1), ((mine - theirs) ** 2).sum(1)], 1)

    def value(self, parts: np.ndarray) -> float:
        """10 log10 of the quotient of the sums."""
        signal, noise = parts.sum(0)
        if not noise:
            return float("inf")
        return float(10 * np.log10(signal / noise)) if signal else float("-inf")
