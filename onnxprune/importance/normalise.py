"""How the scores of different groups are brought to one scale, so that one threshold can cut through all of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnxprune.errors import SettingError

Normaliser = Callable[[np.ndarray], np.ndarray]


def by_mean(scores: np.ndarray) -> np.ndarray:
    """Divided by the group's mean, so that the average unit of every group scores 1; all zeros stay zeros.

    Layer-wise means differ by orders of magnitude with fan-in and depth, and say nothing on which layer can spare
    units (Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023, arXiv:2301.12900, normalise so too).
    """
    mean = scores.mean()
    return scores / mean if mean else scores


def unchanged(scores: np.ndarray) -> np.ndarray:
    """As the criterion gave them: for criteria that measure a loss, which has one scale already."""
    return scores


_NORMALISERS: dict[str, Normaliser] = {"mean": by_mean, "none": unchanged}


def normaliser(name: str) -> Normaliser:
    """The normaliser of that name. Raises SettingError where there is none."""
    if name not in _NORMALISERS:
        raise SettingError(
            f"there is no normalisation {name!r}", remedy="there are: " + ", ".join(sorted(_NORMALISERS))
        )
    return _NORMALISERS[name]
