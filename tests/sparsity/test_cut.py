"""What a Relu or Clip cuts off is left free, and the damping is the one that unseen samples choose."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from onnxprune.analyse import analyse
from onnxprune.runtime.bounds import Bounds
from onnxprune.runtime.data import open_data
from onnxprune.runtime.following import Followed, Following, follow
from onnxprune.runtime.keeping import KeptRows
from onnxprune.runtime.ort import RunOptions
from onnxprune.sparsity.cut import freed
from onnxprune.sparsity.fit import least_squares
from onnxprune.sparsity.layers import find_layers
from onnxprune.sparsity.sums import DEFAULT, Sums, best_damping
from onnxprune.sparsity.weights import find_weights
from tests.sparsity.networks import residual_net, samples


def sums_of(x: np.ndarray, t: np.ndarray) -> Sums:
    """Moments without a bias, of one group."""
    zero = np.zeros((1, t.shape[1]))
    return Sums((x.T @ x / len(x))[None], np.zeros((1, x.shape[1])), (x.T @ t / len(x))[None], zero, zero, 1.0, False)


def test_where_layers_are_cut() -> None:
    coupling = analyse(residual_net())
    found = {layer.weight.name: layer.aim.bounds for layer in find_layers(coupling, find_weights(coupling.view))}
    relu = Bounds(0.0)
    assert found == {"w0": relu, "w1": relu, "wd": relu, "w2": relu, "w3": None}


def test_each_round_lowers_the_error_behind_the_cut() -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(400, 8)) + 2 * rng.normal(size=(400, 1))).astype(np.float32)  # inputs that are alike
    t = (x @ rng.normal(size=(8, 5))).astype(np.float32)
    mask = np.tile(np.array([[1, 0], [0, 1], [1, 0], [0, 1]], bool), (2, 3))[:, :5]
    shift = rng.normal(size=t.shape).astype(np.float32)
    rows = KeptRows(x[None], t[None], shift[None])
    whole = sums_of(x.astype(float), t.astype(float))
    w = least_squares(whole.second[0], whole.cross[0], mask)

    def error(w: np.ndarray) -> float:
        return float(((np.clip(x @ w + shift, 0, 4) - np.clip(t + shift, 0, 4)) ** 2).mean())

    def distance(w: np.ndarray) -> float:
        """What the rounds lower: the distance to all that is as good as the target."""
        y, s, target = x @ w, shift, t
        low, high = 0 - s, 4 - s
        apart = np.where(
            target <= low, np.maximum(y - low, 0), np.where(target >= high, np.minimum(y - high, 0), y - target)
        )
        return float((apart**2).mean())

    found, errors = [distance(w)], [error(w)]
    for _ in range(5):
        sums = freed(whole, Bounds(0.0, 4.0), rows, w[None])
        w = least_squares(sums.second[0], sums.cross[0], mask)
        found.append(distance(w))
        errors.append(error(w))
    assert all(after <= before * (1 + 1e-5) for before, after in pairwise(found))
    assert errors[-1] < errors[0]


def test_damping_is_large_where_samples_are_few() -> None:
    """As many samples as weights: a fit to half of them says nothing of the others, and the dense weights do."""
    rng = np.random.default_rng(0)
    coupling = analyse(residual_net())
    layer = next(found for found in find_layers(coupling, find_weights(coupling.view)) if found.weight.name == "w3")
    dense = rng.normal(size=(1, 16, 8))

    def moments(count: int, noise: float) -> Followed:
        x = rng.normal(size=(count, 16))
        t = x @ dense[0] + noise * rng.normal(size=(count, 8))
        mean = t.mean(axis=0)[None]
        return Followed(
            (x.T @ x / count)[None],
            x.mean(axis=0)[None],
            (x.T @ t / count)[None],
            mean,
            (t**2).mean(axis=0)[None],
            count,
        )

    def chosen(count: int) -> float:
        halves = moments(count, 1.0), moments(count, 1.0)
        return best_damping(layer, replace(halves[0], halves=halves), dense, None)

    assert chosen(16) == 0.5
    assert best_damping(layer, moments(16, 1.0), dense, None) == DEFAULT


def test_halves_are_of_every_other_sample_and_make_the_whole(tmp_path_factory: pytest.TempPathFactory) -> None:
    coupling = analyse(residual_net())
    view = coupling.view
    data = open_data(samples(tmp_path_factory.mktemp("d") / "x.npz", 10), view, seed=None)
    aims = [layer.aim for layer in find_layers(coupling, find_weights(view)) if layer.weight.name in ("w1", "w2")]
    for batch in (1, 4):
        how = Following(data, RunOptions(threads=1), positions=None, batch=batch)
        for aim, found in zip(aims, follow(how, view, view, aims, coupling.shapes.shape, {}), strict=True):
            assert found.halves is not None
            assert found.kept is not None
            assert [half.rows for half in found.halves] == [5 * 64, 5 * 64]
            np.testing.assert_allclose(found.second, (found.halves[0].second + found.halves[1].second) / 2)
            x = found.kept.x[0].astype(float)
            np.testing.assert_allclose(x.T @ x / len(x), found.second[0], rtol=1e-4, atol=1e-4)
            assert (found.kept.shift is None) is (aim.minus is None)
