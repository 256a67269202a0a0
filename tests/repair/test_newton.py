"""Several layers fitted at once: sides and products of the linear problem, what stays fixed, and who judges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from onnx import helper

from onnxprune.analyse import analyse
from onnxprune.repair.lowering import Lowering
from onnxprune.repair.newton import Layers, Maps, Weights, _error, _forward, _Linear, fit_together
from onnxprune.runtime.bounds import Bounds
from onnxprune.runtime.consumers import consumers_of
from tests.support.models import make_model
from tests.support.repairing import normal

SIZE = (6, 5)


RELU = Bounds(0.0)


def layers(*, end: Bounds | None = RELU) -> Layers:
    """3x3 with stride 2, Relu6, depthwise 3x3, Relu, 1x1; then what `end` clips."""
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["h"], pads=[1, 1, 1, 1], strides=[2, 1]),
        helper.make_node("Conv", ["h", "b"], ["g"], pads=[1, 1, 1, 1], group=4),
        helper.make_node("Conv", ["g", "c"], ["y"]),
    ]
    weights = {"a": (4, 3, 3, 3), "b": (4, 1, 3, 3), "c": (5, 4, 1, 1)}
    coupling = analyse(make_model(nodes, {"x": ("n", 3, *SIZE)}, ["y"], weights))
    spatial, found = SIZE, []
    for consumer in consumers_of(coupling, every=True):
        found.append(Lowering(consumer, spatial))
        spatial = found[-1].output
    return Layers(found, [Bounds(0.0, 6.0), Bounds(0.0), end])


def weights(seed: int = 0, scale: float = 0.5) -> Weights:
    shapes = [(1, 27, 4), (1, 4), (4, 9, 1), (4, 1), (1, 4, 5), (1, 5)]
    return [scale * normal(*shape, seed=seed + k) for k, shape in enumerate(shapes)]


def maps(layers: Layers, true: Weights, samples: int, seed: int = 0) -> Maps:
    """What layers with the weights `true` give, with a shortcut added."""
    x, added = normal(3, *SIZE, samples, seed=seed), normal(5, 3, 5, samples, seed=seed + 1)
    value = x
    for number, (layer, bounds) in enumerate(zip(layers.lowerings, layers.bounds, strict=True)):
        value = layer.apply(layer.lower(value), true[2 * number])
        value = value + true[2 * number + 1].reshape(-1, 1, 1, 1)
        if number < 2 and bounds is not None:
            value = bounds.clip(value)
    return Maps(x, value + added, added)


def near(true: Weights, by: float = 0.15) -> Weights:
    return [w + by * normal(*w.shape, seed=90 + k) for k, w in enumerate(true)]


FREE = [True] * 6


@pytest.mark.parametrize("end", [None, Bounds(0.0), Bounds(-0.5, 0.5)])
def test_the_side_is_the_gradient_and_the_product_what_outputs_move_by(end: Bounds | None) -> None:
    stack, true = layers(end=end), weights()
    given, start = maps(stack, true, 8), near(true)
    at = _Linear(stack, start, given, FREE)
    step = [normal(*w.shape, seed=40 + k) for k, w in enumerate(start)]
    along = sum(float((s * g).sum()) for s, g in zip(step, at.side, strict=True))
    small = 2e-3

    def error(by: float) -> float:
        """The mean square of what is missing: also where the output lies beyond a bound, and the target does not."""
        moved = [w + np.float32(by) * s for w, s in zip(start, step, strict=True)]
        out = _forward(stack, moved, given.read)[1][-1] + given.added
        missing = (end or Bounds()).missing(out, given.total)
        return float((missing**2).sum(dtype=np.float64)) / given.total[0].size

    assert -2 * along == pytest.approx((error(small) - error(-small)) / (2 * small), rel=0.02)
    other = [normal(*w.shape, seed=60 + k) for k, w in enumerate(start)]
    there = sum(float((o * p).sum()) for o, p in zip(other, at.product(step), strict=True))
    back = sum(float((s * p).sum()) for s, p in zip(step, at.product(other), strict=True))
    assert there == pytest.approx(back, rel=1e-3)
    assert sum(float((s * p).sum()) for s, p in zip(step, at.product(step), strict=True)) > 0


def test_weights_that_were_disturbed_come_back_near_to_what_they_did() -> None:
    stack, true = layers(), weights()
    found = fit_together(stack, near(true), FREE, maps(stack, true, 64), maps(stack, true, 16, seed=7))
    assert found.before > 0.02
    assert found.after < 0.05 * found.before
    fresh = maps(stack, true, 32, seed=20)
    assert _error(stack, found.weights, fresh) < 0.1 * _error(stack, near(true), fresh)


def test_what_is_not_free_stays() -> None:
    stack, true = layers(), weights()
    start = near(true)
    mask = normal(*start[0].shape, seed=5) > 0
    start[0] *= mask
    free = [mask, True, True, False, True, True]
    found = fit_together(stack, start, free, maps(stack, true, 64), maps(stack, true, 16, seed=7))
    assert found.after < 0.8 * found.before
    assert np.all(found.weights[0][~mask] == 0)
    np.testing.assert_array_equal(found.weights[3], start[3])
    assert not np.array_equal(found.weights[4], start[4])


def test_samples_that_are_held_back_decide() -> None:
    stack, true = layers(), weights()
    unlike = maps(stack, weights(seed=30), 64)  # to fit to these is of no use for the others
    start = near(true, by=0.02)
    found = fit_together(stack, start, FREE, unlike, maps(stack, true, 16, seed=7))
    assert found.after <= found.before
    if found.after == found.before:
        assert all(np.array_equal(a, b) for a, b in zip(found.weights, start, strict=True))
    assert found.after > 0.5 * found.before


def test_where_nothing_is_missing_nothing_changes() -> None:
    stack, true = layers(), weights()
    found = fit_together(stack, true, FREE, maps(stack, true, 16), maps(stack, true, 16, seed=7))
    assert (found.before, found.after) == (found.after, pytest.approx(0, abs=1e-6))
    assert all(a is b for a, b in zip(found.weights, true, strict=True))


def test_places_that_do_not_count_may_hold_anything() -> None:
    stack, true = layers(), weights()
    parts = []
    for seed, samples in ((0, 64), (7, 16)):
        clean = maps(stack, true, samples, seed)
        counts = normal(3, 5, samples, seed=seed + 3) > -0.5
        wrong = np.where(counts, clean.total, 1e3).astype(np.float32)
        parts.append((replace(clean, counts=counts), replace(clean, total=wrong, counts=counts)))
    (fit, fit_wrong), (judge, judge_wrong) = parts
    one = fit_together(stack, near(true), FREE, fit, judge)
    other = fit_together(stack, near(true), FREE, fit_wrong, judge_wrong)
    assert one.after < 0.1 * one.before
    for a, b in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(a, b)
