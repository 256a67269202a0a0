"""The public names together: any kind of source in, the same out, and values that one can look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon
import pytest

import onnxprune
from onnxprune import Budget
from tests.support.planning import conv_chain


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(conv_chain(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def half(source: object) -> tuple[onnxprune.Coupling, onnxprune.Plan]:
    coupling = onnxprune.analyse(source)
    return coupling, onnxprune.plan(coupling, onnxprune.score(coupling), Budget(ratio=0.5))


def shapes(proto: onnx.ModelProto) -> dict[str, list[int]]:
    return {tensor.name: list(tensor.dims) for tensor in proto.graph.initializer}


HALF = {"w0": [16, 3, 1, 1], "w1": [8, 16, 1, 1], "head": [5, 8, 1, 1]}


def test_paths_and_protos_are_one_model(path: Path) -> None:
    _, plan = half(path)
    proto = onnx.load(path)
    before = proto.SerializeToString()
    results = [onnxprune.apply(source, plan) for source in (path, str(path), proto, onnxprune.load(path))]
    assert all(isinstance(result, onnxprune.Model) for result in results)
    first, *others = [result.to_proto() for result in results]
    assert shapes(first) == HALF
    assert all(other == first for other in others)
    assert proto.SerializeToString() == before


def test_graphs_in_and_out(path: Path) -> None:
    graph = onnx_graphsurgeon.import_onnx(onnx.load(path))
    _, plan = half(graph)
    result = onnxprune.to_graphsurgeon(onnxprune.apply(graph, plan))
    assert isinstance(result, onnx_graphsurgeon.Graph)
    assert {name: list(t.shape) for name, t in result.tensors().items() if name in HALF} == HALF


def test_with_the_analysis_at_hand_it_is_the_same(path: Path) -> None:
    coupling, plan = half(path)
    assert onnxprune.apply(path, plan, coupling).to_proto() == onnxprune.apply(path, plan).to_proto()


def test_a_plan_for_another_model(path: Path) -> None:
    _, plan = half(path)
    other = conv_chain()
    other.graph.initializer[0].raw_data = np.ones((32, 3), np.float32).tobytes()
    with pytest.raises(onnxprune.PlanError, match="for another model"):
        onnxprune.apply(other, plan)


def test_plans_as_files(path: Path, tmp_path: Path) -> None:
    _, plan = half(path)
    onnxprune.save_plan(plan, tmp_path / "a.prune.json")
    assert onnxprune.load_plan(tmp_path / "a.prune.json") == plan


def test_measured_shapes(tmp_path: Path) -> None:
    coupling = onnxprune.analyse(conv_chain(), measure=onnxprune.measure_shapes)
    assert coupling.measured == {}  # inference left nothing open, so that nothing was measured
    assert onnxprune.measure_shapes(coupling.view, coupling.bindings, ["c1"]) == {"c1": (1, 16, 8, 8)}


def test_what_they_look_like(path: Path) -> None:
    coupling, plan = half(path)
    assert repr(coupling) == "Coupling(5 nodes, 2 groups of 48 units in all)"
    assert repr(plan) == "Plan(2 of 2 groups change, 216 of 688 parameters and 13,824 of 44,032 MACs stay)"
    assert repr(onnxprune.Plan("", (), {})) == "Plan(0 of 0 groups change)"
    assert repr(onnxprune.apply(path, plan)) == f"Model({str(path)!r}, 5 nodes)"


def test_tables_for_notebooks(path: Path) -> None:
    coupling, plan = half(path)
    shown = coupling._repr_html_()
    assert "<td>w0:0</td><td>channels</td><td>32</td>" in shown
    assert "<td>w1:0</td><td>16</td><td>8</td>" in plan._repr_html_()
    verdict = onnxprune.Verdict("<top1>", 10, 0.5, 0.25, None, ("too low",))
    assert "<td>&lt;top1&gt;</td><td>0.5</td><td>0.25</td>" in verdict._repr_html_()
    assert "on 10 samples: too low" in verdict._repr_html_()


def test_nothing_to_recover_by(path: Path, tmp_path: Path) -> None:
    coupling, _ = half(path)
    (name,) = coupling.view.inputs
    shape = coupling.bindings.shapes[name]
    np.savez(tmp_path / "d.npz", **{name: np.zeros((4, *shape[1:]), np.float32)})
    data = onnxprune.open_data(tmp_path / "d.npz", coupling.view)
    with pytest.raises(onnxprune.SettingError, match="there is nothing to learn from"):
        onnxprune.recover(path, data)
    with pytest.raises(onnxprune.SettingError, match="cannot be divided"):
        onnxprune.recover(path, data.part(0, 1), teacher=path)
