"""Least squares from moments: weights that are known are found, and nothing gets worse on samples held back."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.repair.fit import RIDGES, Solver, fit
from onnxprune.runtime.aimed import Moments


def moments(x: np.ndarray, t: np.ndarray) -> Moments:
    """Of rows [groups, n, D] and targets [groups, n, K]."""
    n = x.shape[1]
    return Moments(
        x.transpose(0, 2, 1) @ x / n, x.mean(axis=1), x.transpose(0, 2, 1) @ t / n, t.mean(axis=1),
        (t * t).mean(axis=1), n,
    )  # fmt: skip


def rows(rng: np.random.Generator, count: int, size: int, groups: int = 1) -> np.ndarray:
    return rng.normal(size=(groups, count, size)) + 1


def test_errors_are_those_of_the_rows() -> None:
    rng = np.random.default_rng(0)
    x, t = rows(rng, 50, 3, groups=2), rows(rng, 50, 4, groups=2)
    weight, bias = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 4))
    found = moments(x, t)
    plain = ((x @ weight + bias[:, None] - t) ** 2).mean(axis=1).sum()
    assert found.error(weight, bias) == pytest.approx(plain, rel=1e-9)
    assert found.spread == pytest.approx(t.var(axis=1).sum(), rel=1e-9)
    assert found.share(weight, bias) == pytest.approx(plain / t.var(axis=1).sum(), rel=1e-9)


def test_moments_add_up_to_those_of_all_rows() -> None:
    rng = np.random.default_rng(1)
    x, t = rows(rng, 70, 3), rows(rng, 70, 2)
    both, whole = moments(x[:, :20], t[:, :20]) + moments(x[:, 20:], t[:, 20:]), moments(x, t)
    assert both.rows == 70
    for name in ("second", "mean", "cross", "target_mean", "target_second"):
        np.testing.assert_allclose(getattr(both, name), getattr(whole, name), rtol=1e-12)


def test_what_is_held_back_is_not_fitted_to() -> None:
    """Whatever it asks for: the weights are those of the other rows at the ridge that it chose."""
    rng = np.random.default_rng(1)
    weight, x = rng.normal(size=(1, 3, 2)), rows(rng, 70, 3)
    train = moments(x, x @ weight + rng.normal(size=(1, 70, 2)))
    for true in (weight, weight + 0.5):
        y = rows(rng, 40, 3)
        found = fit(train, moments(y, y @ true), weight + 1, np.zeros((1, 2)), free_bias=True)
        assert found.ridge is not None
        alone, bias = Solver(train, weight + 1, np.zeros((1, 2)), True).at(found.ridge)
        np.testing.assert_array_equal(found.weight, alone)
        np.testing.assert_array_equal(found.bias, bias)


def test_a_small_ridge_must_be_worth_it() -> None:
    """Noise hides what a ridge below 0.01 gains; where there is none, the smallest is taken (below)."""
    rng = np.random.default_rng(11)
    weight = rng.normal(size=(1, 20, 4))
    for _ in range(5):
        train, held = (
            moments(x, x @ weight + 2 * rng.normal(size=(1, x.shape[1], 4)))
            for x in (rows(rng, 300, 20), rows(rng, 50, 20))
        )
        found = fit(train, held, np.zeros((1, 20, 4)), np.zeros((1, 4)), free_bias=True)
        assert found.ridge is not None
        assert found.ridge >= 0.01


@pytest.mark.parametrize("free_bias", [True, False])
def test_known_weights_are_found(free_bias: bool) -> None:
    rng = np.random.default_rng(2)
    weight, bias = rng.normal(size=(1, 5, 3)), rng.normal(size=(1, 3))
    train, held = (moments(x, x @ weight + bias) for x in (rows(rng, 400, 5), rows(rng, 100, 5)))
    start = np.zeros((1, 3)) if free_bias else bias
    found = fit(train, held, np.zeros((1, 5, 3)), start, free_bias=free_bias)
    np.testing.assert_allclose(found.weight, weight, atol=1e-4)
    np.testing.assert_allclose(found.bias, bias, atol=1e-4)
    assert found.ridge == RIDGES[0]
    assert found.before > 1
    assert found.after < 1e-8


def test_a_bias_that_is_not_free_stays() -> None:
    rng = np.random.default_rng(3)
    x, y = rows(rng, 300, 4), rows(rng, 100, 4)
    bias = rng.normal(size=(1, 2))
    target = rng.normal(size=(1, 4, 2))
    found = fit(moments(x, x @ target + 5), moments(y, y @ target + 5), target * 0.5, bias, free_bias=False)
    assert found.bias is bias
    assert found.ridge is not None
    plain = np.linalg.lstsq(x[0], (x @ target)[0] + 5 - bias)
    np.testing.assert_allclose(found.weight[0], plain[0], atol=0.05)


def test_with_an_infinite_ridge_the_bias_alone_moves() -> None:
    """Of noise in front and a target that is another number alone, the rows tell nothing but its mean."""
    rng = np.random.default_rng(4)
    weight, bias = rng.normal(size=(1, 30, 2)), np.zeros((1, 2))

    def both(count: int) -> Moments:
        x = rng.normal(size=(1, count, 30))
        return moments(x, x @ weight + 7 + 0.5 * rng.normal(size=(1, count, 2)))

    train = both(12)
    found = fit(train, both(400), weight, bias, free_bias=True)
    assert found.ridge == np.inf
    assert found.weight is weight
    np.testing.assert_allclose(found.bias, train.target_mean - train.mean @ weight[0], rtol=1e-9)
    np.testing.assert_allclose(found.bias, np.full((1, 2), 7), atol=0.5)  # the mean noise of 12 rows: 0.14
    assert found.after < found.before


def test_nothing_is_worse_on_what_is_held_back() -> None:
    rng = np.random.default_rng(5)
    kept = 0
    for _ in range(40):
        size, count = int(rng.integers(1, 12)), int(rng.integers(2, 20))
        weight, bias = rng.normal(size=(1, size, 2)), rng.normal(size=(1, 2))
        x, y = rows(rng, count, size), rows(rng, 30, size)
        noise = float(rng.choice([0.01, 1, 10]))
        train, held = (moments(r, r @ weight + bias + noise * rng.normal(size=(1, r.shape[1], 2))) for r in (x, y))
        found = fit(train, held, weight, bias, free_bias=bool(rng.integers(2)))
        assert 0 <= found.after <= found.before
        if found.ridge is None:
            kept += 1
            assert found.weight is weight
            assert found.bias is bias
            assert found.after == found.before
    assert 0 < kept < 40


def test_blocks_are_fitted_each_for_itself() -> None:
    rng = np.random.default_rng(6)
    x, y = rows(rng, 300, 3, groups=4), rows(rng, 300, 3, groups=4)
    weight, bias = rng.normal(size=(4, 3, 2)), rng.normal(size=(4, 2))
    start = np.zeros_like(weight)
    found = fit(
        moments(x, x @ weight + bias[:, None]), moments(y, y @ weight + bias[:, None]), start, bias * 0, free_bias=True
    )
    np.testing.assert_allclose(found.weight, weight, atol=1e-4)
    np.testing.assert_allclose(found.bias, bias, atol=1e-4)


def test_what_is_right_already_stays_to_the_bit() -> None:
    """Products in float32 leave an error of rounding, which is nothing to fit to."""
    rng = np.random.default_rng(7)
    weight, bias = rng.normal(size=(1, 4, 2)), rng.normal(size=(1, 2))
    x, y = (rows(rng, n, 4).astype(np.float32) for n in (500, 200))

    def rounded(r: np.ndarray) -> Moments:
        return moments(r, (r @ weight.astype(np.float32) + bias.astype(np.float32)).astype(np.float32))

    found = fit(rounded(x), rounded(y), weight, bias, free_bias=True)
    assert found.ridge is None
    assert found.weight is weight
    assert found.before < 1e-5


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_target_that_does_not_vary(value: float) -> None:
    """A dead layer's error is a share of its size, and 0 where it is always 0; never infinite."""
    rng = np.random.default_rng(8)
    x, y = rows(rng, 100, 3), rows(rng, 50, 3)
    t, u = np.full((1, 100, 2), value), np.full((1, 50, 2), value)
    found = fit(moments(x, t), moments(y, u), np.ones((1, 3, 2)), np.zeros((1, 2)), free_bias=True)
    assert np.isfinite([found.before, found.after]).all()
    assert found.after < 1e-6
    np.testing.assert_allclose(found.weight, 0, atol=1e-3)


def test_dead_inputs_change_nothing() -> None:
    """All rows are 0: only the bias has anything to say."""
    x, t = np.zeros((1, 60, 3)), np.random.default_rng(9).normal(size=(1, 60, 2)) + 4
    weight = np.ones((1, 3, 2))
    found = fit(moments(x, t), moments(x, t), weight, np.zeros((1, 2)), free_bias=True)
    np.testing.assert_array_equal(found.weight, weight)
    np.testing.assert_allclose(found.bias, t.mean(axis=1), rtol=1e-9)
