"""Fits under masks, against what they are defined by and against each other."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from onnxprune.sparsity.fit import alternate, descend, least_squares, loss, obs_groups, obs_share
from onnxprune.sparsity.masks import keep_nm, keep_share


@pytest.fixture(scope="module")
def system() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """H of correlated inputs, C and W of 24 features and 10 outputs."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(400, 24)) @ rng.normal(size=(24, 24))
    w = rng.normal(size=(24, 10))
    h = x.T @ x / len(x) + 0.05 * np.eye(24)
    return h, h @ w, w


GROUPS = np.arange(24).reshape(-1, 4)


def test_least_squares_is_where_the_gradient_vanishes(system: tuple[np.ndarray, ...]) -> None:
    h, c, _ = system
    rng = np.random.default_rng(0)
    mask = rng.random(c.shape) < 0.5
    mask[:, 0], mask[:, 1] = False, True
    w = least_squares(h, c, mask)
    gradient = h @ w - c
    assert np.abs(gradient[mask]).max() < 1e-9 * np.abs(c).max()
    assert not w[~mask].any()


def test_obs_removes_one_weight_as_the_closed_form_says(system: tuple[np.ndarray, ...]) -> None:
    h, _, w = system
    one = w[:4, :1]
    small = h[:4, :4]
    mask, found = obs_groups(small, one, np.arange(4)[None], 3)
    inverse = np.linalg.inv(small)
    cost = one[:, 0] ** 2 / np.diag(inverse)
    gone = int(cost.argmin())
    assert np.flatnonzero(~mask[:, 0]).tolist() == [gone]
    expected = one[:, 0] - inverse[:, gone] * one[gone, 0] / inverse[gone, gone]
    assert np.allclose(found[:, 0], expected, atol=1e-12)


def test_the_sweep_hands_on_what_goes(system: tuple[np.ndarray, ...]) -> None:
    h, c, w = system
    mask, found = obs_groups(h, w, GROUPS, 2)
    assert (mask.reshape(6, 4, 10).sum(axis=1) == 2).all()
    plain = w * keep_nm(np.abs(w)[None], 2, 4)[0]
    assert loss(h, c, w) < loss(h, c, found) < loss(h, c, plain)
    mask, found = obs_share(h, w, 0.5)
    assert (~mask).mean() == pytest.approx(0.5)
    assert loss(h, c, found) < loss(h, c, w * keep_share(np.abs(w), 0.5))


def test_descent_finds_the_best_choice_of_two_groups() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(100, 8)) @ rng.normal(size=(8, 8))
    h, w = x.T @ x / 100, rng.normal(size=(8, 40))
    c, groups = h @ w, np.arange(8).reshape(2, 4)
    mask, start = obs_groups(h, w, groups, 2)
    mask, found = descend(h, c, start, mask, groups, 2, 20)
    assert loss(h, c, found) <= loss(h, c, least_squares(h, c, obs_groups(h, w, groups, 2)[0])) + 1e-9
    best = []
    for column in range(40):
        every = []
        for one in combinations(range(4), 2):
            for other in combinations(range(4, 8), 2):
                kept = np.zeros((8, 1), bool)
                kept[[*one, *other]] = True
                every.append(loss(h, c[:, [column]], least_squares(h, c[:, [column]], kept)))
        best.append(min(every))
    mine = [loss(h, c[:, [k]], least_squares(h, c[:, [k]], mask[:, [k]])) for k in range(40)]
    # coordinate descent may stop short, in few of 40 columns and by little
    assert sum(m > b + 1e-9 for m, b in zip(mine, best, strict=True)) <= 12
    assert sum(mine) - sum(best) < 0.1 * (sum(mine) - loss(h, c, w))


def test_admm_does_better_than_the_sweep(system: tuple[np.ndarray, ...]) -> None:
    h, c, w = system
    by_sweep = least_squares(h, c, obs_groups(h, w, GROUPS, 2)[0])
    mask = alternate(h, c, w, lambda scores: keep_nm(scores[None], 2, 4)[0])
    assert (mask.reshape(6, 4, 10).sum(axis=1) == 2).all()
    assert loss(h, c, least_squares(h, c, mask)) < loss(h, c, by_sweep)


def test_a_tail_stays_and_takes_part() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(60, 6)) @ rng.normal(size=(6, 6))
    h, w = x.T @ x / 60, rng.normal(size=(6, 5))
    groups = np.arange(4)[None]
    mask, found = obs_groups(h, w, groups, 2)
    assert mask[4:].all()
    assert not np.allclose(found[4:], w[4:])
    mask, _ = descend(h, h @ w, found, mask, groups, 2, 5)
    assert mask[4:].all()
    assert (mask[:4].sum(axis=0) == 2).all()
