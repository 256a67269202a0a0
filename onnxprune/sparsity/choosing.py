"""How the zeros of one layer are chosen and what becomes of the rest: the methods, on plain arrays.

A `Problem` is a layer as its weights see it. Features are by channel, then tap, as in Consumer.matrix; N:M groups hold
channels that follow each other at one tap, which is the axis that the hardware looks at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import comb

import numpy as np

from onnxprune.sparsity.fit import alternate, descend, least_squares, obs_groups, obs_share
from onnxprune.sparsity.masks import keep_blocks, keep_nm, keep_share
from onnxprune.sparsity.patterns import Pattern

_SWEEPS = 20
_REVISIONS = 3
_OBS_CHOICES = 70  # ways to choose from a group (8 over 4) up to which all are compared


@dataclass(frozen=True)
class Problem:
    """Weights w [D, R] of D = channels x taps features, the damped second moment h [D, D] of what they meet, and c
    [D, R], that with what the result should be. `share` of the weights go, where the pattern does not say it.
    """

    pattern: Pattern
    share: float
    taps: int
    w: np.ndarray
    h: np.ndarray
    c: np.ndarray

    @cached_property
    def groups(self) -> np.ndarray:
        """The features of every whole N:M group, [G, m]."""
        channels = len(self.w) // self.taps
        whole = channels // self.pattern.m * self.pattern.m
        features = np.arange(len(self.w)).reshape(channels, self.taps)[:whole].T
        return features.reshape(-1, self.pattern.m)

    @property
    def goal(self) -> np.ndarray:
        """The dense weights of least loss."""
        return np.linalg.solve(self.h, self.c)

    def keep(self, scores: np.ndarray) -> np.ndarray:
        """The mask that keeps the largest scores [D, R] that the pattern allows."""
        if self.pattern.kind == "unstructured":
            return keep_share(scores, self.share)
        shaped = scores.reshape(-1, self.taps, scores.shape[1])
        if self.pattern.kind == "nm":
            sheets = shaped.reshape(1, len(shaped), -1)
            return keep_nm(sheets, self.pattern.n, self.pattern.m).reshape(scores.shape)
        kept = keep_blocks(shaped.transpose(2, 1, 0), self.pattern.rows, self.pattern.columns, self.share)
        return np.ascontiguousarray(kept.transpose(2, 1, 0)).reshape(scores.shape)


Chosen = tuple[np.ndarray, np.ndarray]
"""Mask and weights."""


def by_magnitude(problem: Problem) -> Chosen:
    """The largest weights stay."""
    mask = problem.keep(np.abs(problem.w))
    return mask, problem.w * mask


def by_wanda(problem: Problem) -> Chosen:
    """Those stay whose magnitude times the norm of what they meet is largest (Sun et al. 2023).

    Without a pattern each output keeps the same share, as the paper has it.
    """
    scores = np.abs(problem.w) * np.sqrt(np.diag(problem.h))[:, None]
    if problem.pattern.kind == "unstructured":
        mask = np.stack([keep_share(column, problem.share) for column in scores.T], axis=1)
    else:
        mask = problem.keep(scores)
    return mask, problem.w * mask


def by_obs(problem: Problem) -> Chosen:
    """SparseGPT's sweep over the weights as they are, which makes up for what goes as it goes."""
    return _swept(problem, problem.w)


def by_fit(problem: Problem) -> Chosen:
    """The mask on which ADMM settles, then coordinate descent over the groups, then least squares."""
    mask = alternate(problem.h, problem.c, problem.goal, problem.keep)
    if _is_small(problem.pattern):
        found = least_squares(problem.h, problem.c, mask)
        mask, _ = descend(problem.h, problem.c, found, mask, problem.groups, problem.pattern.n, _SWEEPS)
    return mask, least_squares(problem.h, problem.c, mask)


def revised(problem: Problem, mask: np.ndarray, w: np.ndarray) -> np.ndarray:
    """A mask that serves the problem no worse than `mask` with weights `w`; the same where groups are large or none."""
    if not _is_small(problem.pattern):
        return mask
    return descend(problem.h, problem.c, w, mask, problem.groups, problem.pattern.n, _REVISIONS)[0]


def _swept(problem: Problem, w: np.ndarray) -> Chosen:
    if _is_small(problem.pattern):
        return obs_groups(problem.h, w, problem.groups, problem.pattern.n)
    if problem.pattern.kind == "unstructured":
        return obs_share(problem.h, w, problem.share)
    # Whole blocks and large groups: by what each weight costs alone.
    mask = problem.keep(w**2 / np.diag(np.linalg.inv(problem.h))[:, None])
    return mask, least_squares(problem.h, problem.h @ w, mask)


def _is_small(pattern: Pattern) -> bool:
    return pattern.kind == "nm" and comb(pattern.m, pattern.n) <= _OBS_CHOICES


def repaired(problem: Problem, mask: np.ndarray) -> np.ndarray:
    """The weights of least loss under a mask."""
    return least_squares(problem.h, problem.c, mask)


@dataclass(frozen=True)
class Method:
    """`needs`: what it looks at beside the weights: "" nothing, "inputs" the second moments of each layer's inputs.

    `aims`: whether it fits the dense model's outputs, not its own weights.
    """

    choose: Callable[[Problem], Chosen]
    needs: str = ""
    aims: bool = False


METHODS = {
    "magnitude": Method(by_magnitude),
    "wanda": Method(by_wanda, "inputs"),
    "sparsegpt": Method(by_obs, "inputs"),
    "fit": Method(by_fit, "inputs", aims=True),
}
"""By the name on the command line."""
