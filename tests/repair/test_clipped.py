"""Fitting behind a Relu or Clip: targets that it hides are left free, those that it shows are met."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import parser

from onnxprune.analyse import analyse
from onnxprune.repair.clipped import fit_behind
from onnxprune.repair.fit import Fit, fit
from onnxprune.runtime.aimed import Moments
from onnxprune.runtime.bounds import Bounds, bounds_behind
from onnxprune.runtime.keeping import RowStore
from onnxprune.runtime.pairs import Pair

RELU, RELU6 = Bounds(0.0), Bounds(0.0, 6.0)


def moments(x: np.ndarray, t: np.ndarray) -> Moments:
    n = x.shape[1]
    found = {"second": x.transpose(0, 2, 1) @ x / n, "mean": x.mean(axis=1), "cross": x.transpose(0, 2, 1) @ t / n}
    found |= {"target_mean": t.mean(axis=1), "target_second": (t * t).mean(axis=1), "rows": np.asarray(n)}
    return Moments.of(found)


class Problem:
    """Rows whose layer gives x W + b (plus a shortcut); what the bounds hide of it is moved further out."""

    def __init__(self, bounds: Bounds, *, groups: int = 1, shortcut: bool = False, free_bias: bool = True) -> None:
        rng = np.random.default_rng(0)
        self.weight, self.bias = rng.normal(size=(groups, 6, 4)), rng.normal(size=(groups, 4))
        self.before = (np.zeros_like(self.weight), np.zeros_like(self.bias) if free_bias else self.bias)
        self.free_bias = free_bias
        self.samples, totals = (RowStore(), RowStore()), []
        for held, count in zip(self.samples, (600, 200), strict=True):
            x = rng.normal(size=(groups, count, 6)).astype(np.float32)
            added = rng.normal(size=(groups, count, 4)).astype(np.float32) if shortcut else None
            total = x @ self.weight + self.bias[:, None] + (0 if added is None else added)
            out = rng.exponential(1, total.shape)
            total = np.where(total <= bounds.low, total - out, np.where(total >= bounds.high, total + out, total))
            aims = (total - (0 if added is None else added)).astype(np.float32)
            for start in range(0, count, 100):
                some = slice(start, start + 100)
                held.append(Pair(0, x[:, some], aims[:, some], None if added is None else added[:, some]))
            totals.append(moments(x.astype(np.float64), aims.astype(np.float64)))
        self.moments = totals[0], totals[1]
        self.bounds = bounds
        self.linear = fit(*self.moments, *self.before, free_bias=free_bias)

    def solve(self, linear: Fit | None = None) -> Fit:
        return fit_behind(
            self.bounds, self.samples, self.moments[0], self.before, linear or self.linear, free_bias=self.free_bias
        )


@pytest.mark.parametrize("bounds", [RELU, RELU6, Bounds(high=1.5)])
@pytest.mark.parametrize(
    "options", [{}, {"groups": 2}, {"shortcut": True}, {"free_bias": False}], ids=["", "groups", "shortcut", "bias"]
)
def test_the_weights_behind_hidden_targets_are_found(bounds: Bounds, options: dict) -> None:
    """Least squares over all targets miss them by far, since what is hidden does not follow from the rows."""
    problem = Problem(bounds, **options)
    found = problem.solve()
    plain = np.abs(problem.linear.weight - problem.weight).max()
    assert plain > 0.1
    assert np.abs(found.weight - problem.weight).max() < plain / 1.5
    assert found.ridge == problem.linear.ridge
    assert found.before > 0.5
    assert found.after < 0.02


def test_a_plain_fit_that_kept_the_weights_is_given_back() -> None:
    problem = Problem(RELU)
    kept = Fit(*problem.before, None, 0.1, 0.1)
    assert problem.solve(kept) is kept


def test_what_is_no_better_behind_the_bounds_is_not_taken() -> None:
    """The weights before are right where it shows, the plain fit is drawn to what is hidden."""
    problem = Problem(RELU)
    problem.before = problem.weight, problem.bias
    found = problem.solve(Fit(problem.linear.weight, problem.linear.bias, 3.0, 1.0, 1.0))
    assert found.ridge is None
    assert found.weight is problem.weight
    assert found.before == found.after < 1e-8


def test_bounds_that_hide_nothing_leave_the_plain_fit() -> None:
    problem = Problem(Bounds())
    found = problem.solve()
    assert found.weight is problem.linear.weight
    assert found.after < 1e-8


def test_inputs_that_are_never_there_do_no_harm() -> None:
    """A depthwise layer, one of whose channels is dead: its block has no products at all."""
    problem = Problem(RELU, groups=2)
    for held in problem.samples:
        for rows, _, _ in held:
            rows[1] = 0
    problem.moments = tuple(
        moments(
            *(np.concatenate([chunk[k] for chunk in held], axis=1).astype(np.float64) for k in (0, 1))
        )
        for held in problem.samples
    )  # fmt: skip
    plain = fit(*problem.moments, *problem.before, free_bias=True)
    found = problem.solve(Fit(plain.weight, plain.bias, 1e-6, 1.0, 1.0))
    assert np.isfinite(found.weight).all()
    assert np.isfinite(found.bias).all()
    assert np.all(found.weight[1] == 0)
    assert found.after < found.before


def test_rows_beyond_the_limit_are_not_held() -> None:
    held = RowStore(limit=400)
    rows, aims = np.ones((1, 10, 3), np.float32), np.ones((1, 10, 2), np.float32)
    for _ in range(4):
        held.append(Pair(0, rows, aims))
    assert [chunk[0].shape for chunk in held] == [(1, 10, 3)] * 2
    assert held.nbytes == 400


def test_what_is_held_does_not_follow_the_batch() -> None:
    held, rows = RowStore(), np.ones((1, 2, 2), np.float32)
    held.append(Pair(0, rows, rows, rows))
    rows[:] = 7
    (chunk,) = held
    assert all((part == 1).all() for part in chunk if part is not None)


@pytest.mark.parametrize(
    ("behind", "bounds"),
    [
        ("y = Relu(c)", RELU),
        ("y = Clip(c, zero, six)", RELU6),
        ("y = Clip(c, , six)", Bounds(high=6.0)),
        ("y = Clip(c, zero)", RELU),
        ("y = Clip(c)", Bounds()),
        ("low = Identity(x1) y = Clip(c, low)", None),
        ("y = Sigmoid(c)", None),
        ("r = Relu(c) y = Add(r, c)", None),
        ("y = PRelu(zero4, c)", None),
        ("y = Identity(c) z = Relu(c)", None),
    ],
)
def test_bounds_are_those_of_what_alone_reads_a_value(behind: str, bounds: Bounds | None) -> None:
    model = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> g (float[2, 4] c0, float x1) => (float[2, 4] y)'
        " <float zero = {0}, float six = {6}, float[2, 4] zero4 = {0, 0, 0, 0, 0, 0, 0, 0}> {"
        f" c = Identity(c0) {behind} }}"
    )
    assert bounds_behind(analyse(model), "c") == bounds


def test_an_output_of_the_model_is_not_clipped() -> None:
    make: Callable[[str], onnx.ModelProto] = parser.parse_model
    model = make(
        '<ir_version: 10, opset_import: ["" : 21]> g (float[2, 4] x) => (float[2, 4] c, float[2, 4] y)'
        " { c = Identity(x) y = Relu(c) }"
    )
    assert bounds_behind(analyse(model), "c") is None
