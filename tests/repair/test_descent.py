"""Several layers fitted at once: the slope, what stays fixed, who judges, and how far it leads."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from onnxprune.analyse import analyse
from onnxprune.repair.activations import Curve
from onnxprune.repair.descent import Maps, Problem, Together, fit_together
from onnxprune.repair.lowering import Lowering
from onnxprune.repair.program import Bend, Layer, Program, Step, Sum, Weights
from onnxprune.runtime.bounds import Bounds
from onnxprune.runtime.consumers import consumers_of
from onnxprune.runtime.workers import workers
from tests.support.models import make_model
from tests.support.repairing import normal

SIZE = (6, 5)
RELU = Bounds(0.0)
FREE = [True] * 6


def clipped(bounds: Bounds) -> Curve:
    return lambda x: (bounds.clip(x), (x > bounds.low) & (x < bounds.high))


def problem(*, end: Bounds = RELU) -> Problem:
    """3x3 with stride 2, Relu6, depthwise 3x3, Relu, 1x1, and a shortcut from around added; then what `end` clips."""
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["h"], pads=[1, 1, 1, 1], strides=[2, 1]),
        helper.make_node("Conv", ["h", "b"], ["g"], pads=[1, 1, 1, 1], group=4),
        helper.make_node("Conv", ["g", "c"], ["y"]),
    ]
    weights = {"a": (4, 3, 3, 3), "b": (4, 1, 3, 3), "c": (5, 4, 1, 1)}
    coupling = analyse(make_model(nodes, {"x": ("n", 3, *SIZE)}, ["y"], weights))
    spatial, layers = SIZE, []
    for consumer in consumers_of(coupling, every=True):
        layers.append(Lowering(consumer, spatial))
        spatial = layers[-1].output
    steps: list[Step] = [
        Layer((0,), 0, layers[0], 4), Bend((2,), clipped(Bounds(0.0, 6.0))), Layer((3,), 1, layers[1], 4),
        Bend((4,), clipped(RELU)), Layer((5,), 2, layers[2], 5), Sum((6, 1)),
    ]  # fmt: skip
    return Problem(Program(2, tuple(steps)), end)


def weights(seed: int = 0, scale: float = 0.5) -> Weights:
    shapes = [(1, 27, 4), (1, 4), (4, 9, 1), (4, 1), (1, 4, 5), (1, 5)]
    return [scale * normal(*shape, seed=seed + k) for k, shape in enumerate(shapes)]


def maps(of: Problem, true: Weights, samples: int, seed: int = 0) -> Maps:
    """What comes out with the weights `true`."""
    given = (normal(3, *SIZE, samples, seed=seed), normal(5, 3, 5, samples, seed=seed + 1))
    return Maps(given, of.program.run(given, true)[0])


def near(true: Weights, by: float = 0.15) -> Weights:
    return [w + by * normal(*w.shape, seed=90 + k) for k, w in enumerate(true)]


def fitted(
    of: Problem, start: Weights, fit: Maps, judge: Maps, free: list[np.ndarray | bool] | None = None, steps: int = 600
) -> Together:
    return fit_together(of, start, free or [*FREE], list(fit.parts(8)), list(judge.parts(8)), steps=steps)


@pytest.mark.parametrize("end", [Bounds(), Bounds(0.0), Bounds(-0.5, 0.5)])
def test_the_slope_is_half_the_gradient_of_what_is_missing(end: Bounds) -> None:
    of, true = problem(end=end), weights()
    given, start = maps(of, true, 8), near(true)
    slope = of.slope(start, given)
    step = [normal(*w.shape, seed=40 + k) for k, w in enumerate(start)]
    along = sum(float((s * g).sum()) for s, g in zip(step, slope, strict=True))
    small = 2e-3

    def error(by: float) -> float:
        """The mean square of what is missing: also where the output lies beyond a bound, and the target does not."""
        moved = [w + np.float32(by) * s for w, s in zip(start, step, strict=True)]
        missing = end.missing(of.program.run(given.given, moved)[0], given.total)
        return float((missing**2).sum(dtype=np.float64)) / given.total[0].size

    assert 2 * along == pytest.approx((error(small) - error(-small)) / (2 * small), rel=0.02)


def test_errors_are_of_what_comes_out_behind_the_bounds() -> None:
    of, true = problem(), weights()
    given = maps(of, true, 12)
    off = [*true[:-1], true[-1] + np.float32([[1, 0, 0, 0, 0]])]
    clipped = np.maximum(given.total, 0)
    expected = float(((np.maximum(given.total[0] + 1, 0) - clipped[0]) ** 2).mean(dtype=np.float64))
    assert of.error(off, list(given.parts(5))) == pytest.approx(expected, rel=1e-4)
    variance = float(clipped.reshape(5, -1).var(axis=1, dtype=np.float64).sum())
    assert of.spread(list(given.parts(5))) == pytest.approx(variance, rel=1e-4)


def test_weights_that_were_disturbed_come_back_near_to_what_they_did() -> None:
    of, true = problem(), weights()
    found = fitted(of, near(true), maps(of, true, 64), maps(of, true, 16, seed=7))
    assert found.before > 0.02
    assert found.after < 0.05 * found.before
    fresh = [maps(of, true, 32, seed=20)]
    assert of.error(found.weights, fresh) < 0.1 * of.error(near(true), fresh)


def test_threads_change_no_bit() -> None:
    of, true = problem(), weights()
    fit, judge, start = list(maps(of, true, 32).parts(8)), list(maps(of, true, 8, seed=9).parts(8)), near(true)
    alone = fit_together(of, start, FREE, fit, judge, steps=30)
    assert alone.after < alone.before
    with workers(3) as each:
        beside = fit_together(of, start, FREE, fit, judge, steps=30, each=each)
    for one, other in zip(alone.weights, beside.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_not_free_stays() -> None:
    of, true = problem(), weights()
    start = near(true)
    mask = normal(*start[0].shape, seed=5) > 0
    start[0] *= mask
    free: list[np.ndarray | bool] = [mask, True, True, False, True, True]
    found = fitted(of, start, maps(of, true, 64), maps(of, true, 16, seed=7), free)
    assert found.after < 0.8 * found.before
    assert np.all(found.weights[0][~mask] == 0)
    np.testing.assert_array_equal(found.weights[3], start[3])
    assert not np.array_equal(found.weights[4], start[4])


def test_samples_that_are_held_back_decide_how_far_to_go() -> None:
    of, true = problem(), weights()
    start, judge = near(true, by=0.02), maps(of, true, 16, seed=7)
    found = fitted(of, start, maps(of, weights(seed=30), 64), judge)  # to fit to these is of no use for the others
    assert (found.before, found.after) == (found.after, pytest.approx(of.error(start, [judge]) / of.spread([judge])))
    assert all(a is b for a, b in zip(found.weights, start, strict=True))
    # half of the way, where the whole of it leads twice as far as is good
    far = [w + 2 * (t - w) for w, t in zip(start, true, strict=True)]
    found = fitted(of, start, maps(of, far, 64), judge, steps=2000)
    whole = fitted(of, start, maps(of, far, 64), maps(of, far, 16, seed=7), steps=2000)
    ways = [np.concatenate([(w - s).ravel() for w, s in zip(x.weights, start, strict=True)]) for x in (found, whole)]
    np.testing.assert_allclose(ways[0], 0.5 * ways[1], atol=1e-6)


def test_where_nothing_is_missing_nothing_changes() -> None:
    of, true = problem(), weights()
    found = fitted(of, true, maps(of, true, 16), maps(of, true, 16, seed=7))
    assert (found.before, found.after) == (found.after, pytest.approx(0, abs=1e-6))
    assert all(a is b for a, b in zip(found.weights, true, strict=True))


def test_places_that_do_not_count_may_hold_anything() -> None:
    of, true = problem(), weights()
    parts = []
    for seed, samples in ((0, 64), (7, 16)):
        clean = maps(of, true, samples, seed)
        counts = normal(3, 5, samples, seed=seed + 3) > -0.5
        wrong = np.where(counts, clean.total, 1e3).astype(np.float32)
        parts.append((Maps(clean.given, clean.total, counts), Maps(clean.given, wrong, counts)))
    (fit, fit_wrong), (judge, judge_wrong) = parts
    one, other = fitted(of, near(true), fit, judge), fitted(of, near(true), fit_wrong, judge_wrong)
    assert one.after < 0.1 * one.before
    for a, b in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_parts_are_of_about_one_size() -> None:
    of = problem()
    whole = maps(of, weights(), 25)
    parts = list(whole.parts(8))
    assert [part.samples for part in parts] == [6, 6, 6, 7]
    np.testing.assert_array_equal(np.concatenate([part.given[1] for part in parts], axis=-1), whole.given[1])
    np.testing.assert_array_equal(np.concatenate([part.total for part in parts], axis=-1), whole.total)
