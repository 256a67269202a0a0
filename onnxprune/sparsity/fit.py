"""Sparse weights that come nearest to a target, by second moments of what they are multiplied with.

All on plain arrays: H [D, D] is the (damped) second moment of the rows x, C [D, R] that of x with the targets t, W
[D, R] the weights, so that the loss is tr(Wᵀ H W) - 2 tr(Cᵀ W) and a constant. Masks are bool [D, R], True where a
weight stays. Everything is float64: the factorisations lose too much in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np

_GATHERED = 1 << 23  # elements of the systems that are solved at a time


def loss(h: np.ndarray, c: np.ndarray, w: np.ndarray) -> float:
    """tr(Wᵀ H W) - 2 tr(Cᵀ W): the squared error but for a constant."""
    return float(np.einsum("dr,dr->", w, h @ w) - 2 * np.einsum("dr,dr->", c, w))


def least_squares(h: np.ndarray, c: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The weights of least loss under a mask, exactly, output by output."""
    found = np.zeros(c.shape)
    counts = mask.sum(axis=0)
    for count in np.unique(counts).tolist():
        if not count:
            continue
        columns = np.flatnonzero(counts == count)
        if count == len(h):
            found[:, columns] = np.linalg.solve(h, c[:, columns])
            continue
        kept = np.nonzero(mask[:, columns].T)[1].reshape(len(columns), count)
        step = max(1, _GATHERED // count**2)
        for start in range(0, len(columns), step):
            some, at = columns[start : start + step], kept[start : start + step]
            systems = h[at[:, :, None], at[:, None, :]]
            sides = c[at, some[:, None]][:, :, None]
            found[at, some[:, None]] = np.linalg.solve(systems, sides)[:, :, 0]
    return found


def obs_groups(h: np.ndarray, w: np.ndarray, groups: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Mask and weights of an OBS sweep: group by group the `n` that stay, the others' part handed on.

    `groups` [G, m] are rows of W. Of each, those go that cost least together, wᵀ (B_PP)⁻¹ w with B the inverse of what
    is left of H; all that comes later, and the rest of the group, makes up for them (SparseGPT: Frantar and Alistarh
    2023, with the cost of a whole group instead of one weight at a time). Rows in no group come last and stay.
    """
    size = groups.shape[1]
    grouped = groups.reshape(-1)
    order = np.concatenate([grouped, np.setdiff1d(np.arange(len(h)), grouped)])
    upper = _upper(np.linalg.inv(h[np.ix_(order, order)]))
    left = w[order].copy()
    kept = np.ones(left.shape, bool)
    going = [list(p) for p in combinations(range(size), size - n)]
    for start in range(0, len(grouped), size):
        end = start + size
        corner = upper[start:end, start:end]
        inverse = corner.T @ corner
        mine = left[start:end]
        parts = [np.linalg.solve(inverse[np.ix_(p, p)], mine[p]) for p in going]
        costs = np.stack([np.einsum("pr,pr->r", mine[p], part) for p, part in zip(going, parts, strict=True)])
        choice = costs.argmin(axis=0)
        push = np.zeros(mine.shape)
        for index, (p, part) in enumerate(zip(going, parts, strict=True)):
            chosen = np.flatnonzero(choice == index)
            push[np.ix_(p, chosen)] = part[:, chosen]
            kept[np.ix_(np.asarray(p) + start, chosen)] = False
        left[start:] -= upper[start:end, start:].T @ (corner @ push)
        left[start:end][~kept[start:end]] = 0
    mask, found = np.empty_like(kept), np.empty_like(left)
    mask[order], found[order] = kept, left
    return mask, found


def obs_share(h: np.ndarray, w: np.ndarray, share: float, block: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """The same without groups: of every `block` rows the share goes that costs least, over all outputs together."""
    upper = _upper(np.linalg.inv(h))
    left, kept = w.copy(), np.ones(w.shape, bool)
    pivot = np.diag(upper)
    for start in range(0, len(h), block):
        end = min(start + block, len(h))
        cost = (left[start:end] / pivot[start:end, None]) ** 2
        count = round(cost.size * share)
        if count:
            order = np.argpartition(cost, count - 1, axis=None)[:count]
            kept[start:end].reshape(-1)[order] = False
        for row in range(start, end):
            push = np.where(kept[row], 0, left[row]) / pivot[row]
            left[row:] -= upper[row, row:, None] * push
        left[start:end][~kept[start:end]] = 0
    return kept, left


def _upper(inverse: np.ndarray) -> np.ndarray:
    """U, upper triangular, with UᵀU = `inverse`: its trailing parts are those of what is left of H."""
    return np.linalg.cholesky((inverse + inverse.T) / 2).T


def descend(
    h: np.ndarray, c: np.ndarray, w: np.ndarray, mask: np.ndarray, groups: np.ndarray, n: int, sweeps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mask and weights after coordinate descent over the groups: each takes the best choice given all others.

    Stops when a sweep changes no choice. The loss never grows.
    """
    size = groups.shape[1]
    staying = np.asarray(list(combinations(range(size), n)))
    w, mask = w.copy(), mask.copy()
    rest = np.setdiff1d(np.arange(len(h)), groups)
    inverses = [np.linalg.inv(h[np.ix_(g, g)][staying[:, :, None], staying[:, None, :]]) for g in groups]
    columns = np.arange(w.shape[1])
    for _ in range(sweeps):
        changed = 0
        if len(rest):
            pull = c[rest] - h[rest] @ w + h[np.ix_(rest, rest)] @ w[rest]
            w[rest] = np.linalg.solve(h[np.ix_(rest, rest)], pull)
        for group, inverse in zip(groups, inverses, strict=True):
            pull = c[group] - h[group] @ w + h[np.ix_(group, group)] @ w[group]
            some = pull[staying]  # [choices, n, R]
            best = np.matmul(inverse, some)
            gains = np.einsum("pnr,pnr->pr", some, best)
            choice = gains.argmax(axis=0)
            before = mask[group]
            now = np.zeros(before.shape, bool)
            fresh = np.zeros(pull.shape)
            at = staying[choice].T  # [n, R]
            now[at, columns] = True
            fresh[at, columns] = best[choice, :, columns].T
            changed += int((now != before).any(axis=0).sum())
            mask[group], w[group] = now, fresh
        if not changed:
            break
    return mask, w


def alternate(
    h: np.ndarray, c: np.ndarray, w: np.ndarray, project: Callable[[np.ndarray], np.ndarray], rounds: int = 60
) -> np.ndarray:
    """The mask that ADMM settles on: weights free to fit, and their copy that `project` masks, drawn together.

    `project` gives the mask of scores [D, R]. As ALPS does (Meng et al. 2024), on columns scaled to a unit diagonal and
    with a penalty that grows as the mask settles.
    """
    scale = np.sqrt(np.diag(h))
    values, vectors = np.linalg.eigh(h / scale[:, None] / scale)
    c, w = c / scale[:, None], w * scale[:, None]
    mask = project(np.abs(w))
    sparse, dual, penalty = w * mask, np.zeros(w.shape), 0.1
    for number in range(rounds):
        side = vectors.T @ (c - dual + penalty * sparse)
        free = vectors @ (side / (values + penalty)[:, None])
        before, mask = mask, project(np.abs(free + dual / penalty))
        sparse = (free + dual / penalty) * mask
        dual += penalty * (free - sparse)
        if number % 3 == 2:
            moved = float((mask != before).sum()) / max(1, int(mask.sum()))
            if not moved:
                break
            penalty *= 1.3 if moved > 0.1 else 1.2 if moved > 0.005 else 1.1
    return mask
