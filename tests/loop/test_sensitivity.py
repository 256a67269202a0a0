"""Sensitivity: each figure is that of a model in which one group alone was pruned; figures are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxprune
from onnxprune.errors import SettingError
from onnxprune.loop.sensitivity import Sensitivity, sensitivity
from tests.support.planning import conv_chain


@pytest.fixture
def net(tmp_path: Path) -> Path:
    onnx.save(conv_chain(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def judge_of(net: Path, metric: str = "mse", samples: int = 8) -> tuple[onnxprune.Coupling, onnxprune.Judge]:
    coupling = onnxprune.analyse(net)
    rng = np.random.default_rng(0)
    (name,) = coupling.view.inputs
    x = rng.normal(size=(samples, *coupling.bindings.shapes[name][1:])).astype(np.float32)
    np.savez(net.with_name("data.npz"), **{name: x})
    data = onnxprune.open_data(net.with_name("data.npz"), coupling.view)
    return coupling, onnxprune.Judge(net, data, onnxprune.find_metric(metric))


def test_each_group_alone(net: Path, tmp_path: Path) -> None:
    coupling, judge = judge_of(net, "snr")
    scores = onnxprune.score(coupling)
    found = sensitivity(coupling, judge, scores, ratios=[0.5, 0.25])
    assert [(c.name, c.size, c.kept) for c in found.curves] == [("w0:0", 32, (24, 16)), ("w1:0", 16, (12, 8))]
    best = np.argsort(-scores[1], kind="stable")[:8]
    model = onnxprune.apply(net, onnxprune.plan_for(coupling, {"w1:0": best.tolist()}), coupling)
    assert found.curves[1].values[1] == judge.score(model).value
    assert found.dense == np.inf
    assert found.as_dict()["dense"] is None
    assert found.ranked()[0] == min(found.curves, key=lambda c: min(c.values))


def test_figures_are_kept(net: Path, tmp_path: Path) -> None:
    coupling, judge = judge_of(net, "snr")
    scores = onnxprune.score(coupling)
    cache = tmp_path / "cache"

    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        assert total == 4
        if done == 3:
            raise StopError

    with pytest.raises(StopError):
        sensitivity(coupling, judge, scores, ratios=[0.5, 0.25], cache=cache, progress=stop)
    assert len(list((cache / "sensitivity").glob("*.npz"))) == 3
    again = sensitivity(coupling, judge, scores, ratios=[0.5, 0.25], cache=cache)
    assert again == sensitivity(coupling, judge, scores, ratios=[0.5, 0.25])
    assert len(list((cache / "sensitivity").glob("*.npz"))) == 4
    other = onnxprune.score(coupling, "random")
    sensitivity(coupling, judge, other, ratios=[0.5], groups=[0], cache=cache)
    assert len(list((cache / "sensitivity").glob("*.npz"))) == 5


def test_shares(net: Path) -> None:
    coupling, judge = judge_of(net, "snr")
    scores = onnxprune.score(coupling)
    found = sensitivity(coupling, judge, scores, ratios=[0.01, 0.999], groups=[1])
    assert [c.kept for c in found.curves] == [(1,)]
    for ratio in (0, 1, -0.5, float("nan")):
        with pytest.raises(SettingError, match="is no share to remove"):
            sensitivity(coupling, judge, scores, ratios=[ratio])


def test_repair_is_applied(net: Path) -> None:
    coupling, judge = judge_of(net, "snr")
    seen = []

    def repair(model: onnxprune.Model, plan: onnxprune.Plan) -> onnxprune.Model:
        seen.append(plan.after)
        return model

    found: Sensitivity = sensitivity(coupling, judge, onnxprune.score(coupling), ratios=[0.5], repair=repair)
    assert len(seen) == len(found.curves) == 2
