"""The closed form is least squares on the data: numpy's, where nothing is damped."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxprune.analyse import analyse
from onnxprune.coupling.coupling import Coupling
from onnxprune.edit.apply import edit
from onnxprune.graph.view import GraphView
from onnxprune.repair.compensate import Compensator, made_up_for
from onnxprune.runtime import statistics as module
from onnxprune.runtime.calibrate import calibrate
from onnxprune.runtime.statistics import Gram
from tests.support.models import make_model
from tests.support.oracle import run
from tests.support.repairing import given, normal, stored

PADS = [1, 1, 1, 1]


def compensated(coupling: Coupling, kept: dict[str, list[int]], x: np.ndarray) -> GraphView:
    found = calibrate(coupling, given(coupling, x=x), ["gram"], positions=None)
    removed = coupling.removed_classes({g.index: kept[g.name] for g in coupling.groups if g.name in kept})
    pruned = edit(coupling, removed).model
    Compensator(coupling, found)(pruned, removed)
    return GraphView(pruned, coupling.view)


@pytest.fixture
def undamped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DAMPING", 0.0)
    monkeypatch.setattr(module, "_SHRINK", np.inf)


def hidden(last: list[onnx.NodeProto], weights: dict, rank: int = 2) -> Coupling:
    """x -> 6 hidden numbers with Relu -> `last` (reads "r", writes "y")."""
    enter = normal(3, 6, seed=3)
    nodes = [
        helper.make_node("MatMul", ["x", "enter"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        *last,
    ]
    shape = ("n", 3) if rank == 2 else ("n", 7, 3)
    return analyse(make_model(nodes, {"x": shape}, ["y"], {"enter": enter, **weights}))


PRODUCTS = {
    "Gemm": (
        [helper.make_node("Gemm", ["r", "w", "b"], ["y"], transB=1, alpha=0.5, beta=2.0)],
        {"w": (4, 6), "b": (4,)}, 2, lambda w: 0.5 * w.T, 2.0,
    ),
    "Gemm, a bias of two axes": (
        [helper.make_node("Gemm", ["r", "w", "b"], ["y"])], {"w": (6, 4), "b": (1, 4)}, 2, lambda w: w, 1.0,
    ),
    "MatMul and Add": (
        [helper.make_node("MatMul", ["r", "w"], ["m"]), helper.make_node("Add", ["b", "m"], ["y"])],
        {"w": (6, 4), "b": (4,)}, 3, lambda w: w, 1.0,
    ),
    "MatMul": ([helper.make_node("MatMul", ["r", "w"], ["y"])], {"w": (6, 4)}, 3, lambda w: w, 0.0),
}  # fmt: skip


@pytest.mark.usefixtures("undamped")
@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name: str) -> None:
    last, weights, rank, matrix, factor = PRODUCTS[name]
    coupling = hidden(last, weights, rank)
    x = normal(300, 3) if rank == 2 else normal(60, 7, 3)
    kept = [0, 2, 3, 5]
    view = compensated(coupling, {"enter:1": kept}, x)
    dense, now = stored(coupling.view.model), stored(view.model)
    r = np.maximum(x.reshape(-1, 3).astype(np.float64) @ dense["enter"], 0)
    target = r @ matrix(dense["w"].astype(np.float64))
    ones = np.ones((len(r), 1))
    rows = np.concatenate([r[:, kept], ones], axis=1) if factor else r[:, kept]
    plain = np.linalg.lstsq(rows, target, rcond=None)[0]
    np.testing.assert_allclose(matrix(now["w"]), plain[: len(kept)], atol=2e-4)
    if factor:
        moved = factor * (now["b"].astype(np.float64) - dense["b"]).reshape(-1)
        np.testing.assert_allclose(moved, plain[-1], atol=2e-4)
    assert np.abs(matrix(now["w"]) - matrix(dense["w"])[kept]).max() > 0.01


def images(outputs: int = 4) -> Coupling:
    nodes = [
        helper.make_node("Conv", ["x", "enter"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "w", "b"], ["z"], pads=PADS, name="middle"),
        helper.make_node("Relu", ["z"], ["s"]),
        helper.make_node("Conv", ["s", "leave"], ["y"]),
    ]
    weights = {"enter": (5, 3, 1, 1), "w": (outputs, 5, 3, 3), "b": (outputs,), "leave": (2, outputs, 1, 1)}
    return analyse(make_model(nodes, {"x": ("n", 3, 5, 5)}, ["y"], weights))


@pytest.mark.usefixtures("undamped")
def test_a_convolution_that_loses_outputs_too() -> None:
    coupling = images()
    x = normal(40, 3, 5, 5)
    inputs, outputs = [0, 1, 4], [1, 3]
    view = compensated(coupling, {"enter:0": inputs, "w:0": outputs}, x)
    dense, now = stored(coupling.view.model), stored(view.model)
    r = np.maximum(np.einsum("nchw,dc->ndhw", x.astype(np.float64), dense["enter"][:, :, 0, 0]), 0)
    padded = np.pad(r, [(0, 0), (0, 0), (1, 1), (1, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))  # n, c, h, w, 3, 3
    rows = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 5, 9)
    target = rows.reshape(-1, 45) @ dense["w"][outputs].reshape(2, 45).T
    mine = np.concatenate([rows[:, inputs].reshape(-1, 27), np.ones((len(rows), 1))], axis=1)
    plain = np.linalg.lstsq(mine, target, rcond=None)[0]
    assert now["w"].shape == (2, 3, 3, 3)
    np.testing.assert_allclose(now["w"].reshape(2, 27).T, plain[:27], atol=5e-4)
    np.testing.assert_allclose(now["b"] - dense["b"][outputs], plain[27], atol=5e-4)


def test_damping_moves_it_little_and_it_is_better_than_nothing() -> None:
    coupling = images()
    x = normal(40, 3, 5, 5)
    view = compensated(coupling, {"enter:0": [0, 1, 4]}, x)
    (index,) = [g.index for g in coupling.groups if g.name == "enter:0"]
    cut = edit(coupling, coupling.removed_classes({index: [0, 1, 4]})).model
    dense = run(coupling.view.model, {"x": x})[0]

    def error(made: np.ndarray) -> float:
        return float(((made - dense) ** 2).mean())

    assert error(run(view.model, {"x": x})[0]) < 0.6 * error(run(cut, {"x": x})[0])


def test_layers_that_lose_nothing_and_grouped_ones_stay() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "enter"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "grouped"], ["g"], group=2, name="grouped"),
        helper.make_node("Conv", ["g", "leave", "b"], ["y"]),
    ]
    weights = {"enter": (6, 3, 1, 1), "grouped": (4, 3, 1, 1), "leave": (2, 4, 1, 1), "b": (2,)}
    coupling = analyse(make_model(nodes, {"x": ("n", 3, 4, 4)}, ["y"], weights))
    (name,) = [g.name for g in coupling.groups if g.size == 3]
    dense = stored(coupling.view.model)
    now = stored(compensated(coupling, {name: [0, 2]}, normal(20, 3, 4, 4)).model)
    np.testing.assert_array_equal(now["grouped"], dense["grouped"][:, [0, 2]])
    for weight in ("leave", "b"):
        np.testing.assert_array_equal(now[weight], dense[weight])


def test_ridges_are_chosen_by_other_samples() -> None:
    """With hardly more rows than columns, plain least squares learn the rows by heart."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(4, 24))

    def gram(count: int) -> Gram:
        x = rng.normal(size=(count, 4)) @ mixing + rng.normal(size=(count, 24)) + 1
        return Gram((x.T @ x / count)[None], x.mean(axis=0)[None], count)

    fitted, held, fresh = gram(26), gram(200), gram(5000)
    columns, dense = np.arange(20), rng.normal(size=(24, 3))

    def error(weight: np.ndarray) -> float:
        change = -dense
        change[columns] += weight
        shift = (fresh.mean[0] - fitted.mean[0]) @ change
        return float(np.vdot(change, fresh.covariance[0] @ change) + shift @ shift)

    moments = fitted.covariance[0]
    plain = np.linalg.solve(moments[:20, :20], moments[:20] @ dense)
    chosen = made_up_for(fitted, held, columns, dense, centred=True)[0]
    assert error(chosen) < 0.5 * error(plain)
    assert error(chosen) < error(dense[columns])


def test_ridges_vanish_where_rows_abound() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4000, 6))
    x[:, 5] = x[:, 0] - x[:, 1]
    gram = Gram((x.T @ x / 4000)[None], x.mean(axis=0)[None], 4000)
    dense = rng.normal(size=(6, 2))
    found = made_up_for(gram, gram, np.arange(5), dense, centred=False)[0]
    exact = dense[:5] + np.array([1.0, -1, 0, 0, 0])[:, None] * dense[5]
    np.testing.assert_allclose(found, exact, atol=1e-3)
