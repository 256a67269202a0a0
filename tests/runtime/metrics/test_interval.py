"""Confidence intervals: published examples, and coverage by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.runtime.metrics import difference, find_metric

TOP1, MSE = find_metric("top1"), find_metric("mse")


def paired(both: int, worse: int, better: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Right or wrong in the dense model and in the pruned one."""
    dense = np.repeat([1.0, 1.0, 0.0, 0.0], [both, worse, better, neither])
    pruned = np.repeat([1.0, 0.0, 1.0, 0.0], [both, worse, better, neither])
    return dense, pruned


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        pytest.param((36, 12, 2, 0), 0.0569, 0.3404, id="method 10 of the paper's table II, 36 12 2 0"),
        pytest.param((100, 0, 0, 0), -0.0370, 0.0370, id="all right"),
    ],
)
def test_newcombe(table: tuple[int, int, int, int], low: float, high: float) -> None:
    found = difference(TOP1, *paired(*table))
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


def test_mcnemar() -> None:
    found = difference(TOP1, *paired(80, 8, 1, 11))
    assert found.loss == pytest.approx(0.07)
    assert found.p_value == pytest.approx(20 / 512)  # 2 * P(at most 1 of 9) = 2 * (1 + 9) / 2**9
    assert (found.worse, found.better) == (8, 1)
    assert found.is_change


def test_half_a_point_on_400_samples_is_no_change() -> None:
    found = difference(TOP1, *paired(350, 12, 10, 28))
    assert found.loss == pytest.approx(0.005)
    assert not found.is_change


def test_equal_models_differ_by_nothing_for_sure_only_up_to_what_samples_show() -> None:
    found = difference(TOP1, *paired(90, 0, 0, 10))
    assert found.loss == 0
    assert found.low < 0 < found.high < 0.05
    assert found.p_value == 1


def test_the_sign_follows_the_metric() -> None:
    small, large = np.full(20, 1.0), np.full(20, 3.0)
    assert difference(MSE, small, large).loss == 2
    assert difference(MSE, large, small).loss == -2


def test_the_bootstrap_is_paired_and_repeatable() -> None:
    rng = np.random.default_rng(0)
    dense = rng.normal(10, 5, 200)
    found = difference(MSE, dense, dense + 0.5)
    assert (found.low, found.high) == pytest.approx((0.5, 0.5))  # what both share does not blur the difference
    shuffled = rng.permutation(dense)
    noisy = difference(MSE, dense, shuffled, seed=3)
    assert noisy.low < 0 < noisy.high
    assert noisy == difference(MSE, dense, shuffled, seed=3)
    assert noisy != difference(MSE, dense, shuffled, seed=4)


def test_the_bootstrap_covers() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for seed in range(100):
        dense = rng.exponential(1, 60)
        found = difference(MSE, dense, dense + rng.normal(0.2, 1, 60), resamples=300, seed=seed)
        hits += found.low <= 0.2 <= found.high
    assert 88 <= hits <= 100  # 95 expected; 88 is a chance of one in 300
