"""The walk through the layers: it sees what really flows, keeps patterns, and comes nearer than choosing alone."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxprune.analyse import analyse
from onnxprune.coupling.coupling import Coupling
from onnxprune.graph.model import Model
from onnxprune.graph.view import GraphView
from onnxprune.runtime.data import Data, open_data
from onnxprune.runtime.following import Following, follow
from onnxprune.runtime.ort import RunOptions, make_session
from onnxprune.runtime.walking import Walking
from onnxprune.sparsity.choosing import METHODS
from onnxprune.sparsity.layers import depths, find_layers
from onnxprune.sparsity.patterns import parse_pattern
from onnxprune.sparsity.sequential import sparsify_layers
from onnxprune.sparsity.wanted import Request, settle
from onnxprune.sparsity.weights import find_weights
from tests.sparsity.networks import residual_net, samples

ONE = RunOptions(threads=1)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> tuple[Coupling, Data]:
    coupling = analyse(residual_net())
    path = samples(tmp_path_factory.mktemp("data") / "x.npz")
    return coupling, open_data(path, coupling.view, seed=None)


def outputs(model: Model, data: Data) -> np.ndarray:
    session = make_session(model.to_proto().SerializeToString(), ONE)
    return np.concatenate([session.run(None, batch.feeds)[0] for batch in data.batches(32)])


Net = tuple[Coupling, Data]


def made(net: Net, method: str, repair: bool, pattern: str = "2:4", share: float | None = None) -> Model:
    coupling, data = net
    weights = find_weights(coupling.view)
    wanted = settle(coupling.view, weights, Request(parse_pattern(pattern), share))
    targets = {target.weight.name: target for target in wanted.targets}
    how = Following(data, ONE, positions=24)
    layers = find_layers(coupling, weights)
    model, fitted = sparsify_layers(coupling, layers, targets, METHODS[method], how, repair=repair)
    assert {item.name for item in fitted if item.zeros} == set(targets)
    return model


def distance(net: tuple[Coupling, Data], model: Model) -> float:
    dense = outputs(net[0].view.model, net[1])
    return float(((outputs(model, net[1]) - dense) ** 2).mean() / dense.var(axis=0).mean())


def test_layers_know_their_bias_shortcut_and_stage(net: tuple[Coupling, Data]) -> None:
    layers = {layer.weight.name: layer for layer in find_layers(net[0], find_weights(net[0].view))}
    assert {name: layer.stage for name, layer in layers.items()} == {"w0": 0, "w1": 1, "wd": 2, "w2": 3, "w3": 4}
    assert {n: (layer.aim.target, layer.aim.minus) for n, layer in layers.items()} == {
        "w0": ("c0", None), "w1": ("c1", None), "wd": ("cd", None), "w2": ("s", "r0"), "w3": ("y", None)
    }  # fmt: skip
    assert {name: layer.bias and layer.bias.name for name, layer in layers.items()} == {
        "w0": "b0", "w1": "b1", "wd": "bd", "w2": "b2", "w3": "b3"
    }  # fmt: skip


def test_walking_sees_what_running_the_models_sees(net: tuple[Coupling, Data]) -> None:
    coupling, data = net
    layers = find_layers(coupling, find_weights(coupling.view))
    changed = coupling.view.model.copy()
    view = GraphView(changed, coupling.view)
    how = Following(data, ONE, positions=20, batch=32)
    depth = depths(coupling.view, {layer.consumer.node for layer in layers})
    walk = Walking(how, coupling.view, view, depth, coupling.shapes.shape, memory=100_000)
    for layer in layers:
        mine = walk(layer.stage, [layer.aim])[0]
        shapes, dtypes = coupling.shapes.shape, coupling.shapes.dtype
        (theirs,) = follow(how, coupling.view, view, [layer.aim], shapes, dtypes)
        assert mine.rows == theirs.rows > 0
        for name in ("second", "mean", "cross", "target_mean", "target_second"):
            assert np.allclose(getattr(mine, name), getattr(theirs, name), rtol=1e-4, atol=1e-5), (layer, name)
        array = changed.array(layer.weight.name)  # each layer is changed before the next is looked at
        changed.defer(layer.weight.name, array.shape, lambda array=array: array * np.float32(0.7))


def test_fitting_comes_nearer(net: tuple[Coupling, Data]) -> None:
    far = distance(net, made(net, "magnitude", False))
    swept = distance(net, made(net, "sparsegpt", False))
    repaired = distance(net, made(net, "magnitude", True))
    fitted = distance(net, made(net, "fit", True))
    assert fitted < repaired < far
    assert swept < far
    assert fitted < 0.35 * far


PATTERNS = [("1:4", None), ("4:8", None), ("unstructured", 0.6), ("block:1x4", 0.5)]


@pytest.mark.parametrize(
    ("method", "pattern", "share"),
    [(m, *p) for m in ("sparsegpt", "fit") for p in PATTERNS] + [(m, *PATTERNS[2]) for m in ("magnitude", "wanda")],
)
def test_every_method_keeps_every_pattern(
    net: tuple[Coupling, Data], method: str, pattern: str, share: float | None
) -> None:
    model = made(net, method, method == "fit", pattern, share)
    w = model.array("w1")
    if pattern[1] == ":":
        n, m = int(pattern[0]), int(pattern[2])
        assert ((w.reshape(16, 16 // m, m, 3, 3) != 0).sum(axis=2) <= n).all()
    else:
        assert (w == 0).mean() == pytest.approx(share, abs=0.01)


def test_only_values_change(net: tuple[Coupling, Data]) -> None:
    coupling = net[0]
    before, after = coupling.view.model.to_proto(), made(net, "fit", True).to_proto()
    assert [t.name for t in before.graph.initializer] == [t.name for t in after.graph.initializer]
    for proto in (before, after):
        for tensor in proto.graph.initializer:
            tensor.raw_data = b""
    assert before.SerializeToString(deterministic=True) == after.SerializeToString(deterministic=True)
    onnx.checker.check_model(made(net, "fit", True).to_proto())
