"""What groups mean for the outputs, measured: curves that never fall with what is removed, and plans by them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxprune.analyse import analyse
from onnxprune.coupling.coupling import Coupling
from onnxprune.importance import Scores, score
from onnxprune.plan import plan
from onnxprune.plan.choices import Choice
from onnxprune.plan.counts import Counts
from onnxprune.plan.curves import HOPELESS, LEVELS, measured_losses
from onnxprune.plan.planner import choices_for
from onnxprune.runtime.calibrate import calibrate
from onnxprune.types import Budget
from tests.support.models import make_model
from tests.support.repairing import given, normal


def model(batch: int | str = "n", width: int = 16) -> onnx.ModelProto:
    """Two branches of hidden units that are added: `a` as it is, `b` read by weights of zero."""
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["ha"]),
        helper.make_node("Relu", ["ha"], ["ra"]),
        helper.make_node("MatMul", ["ra", "da"], ["oa"]),
        helper.make_node("MatMul", ["x", "b"], ["hb"]),
        helper.make_node("Relu", ["hb"], ["rb"]),
        helper.make_node("MatMul", ["rb", "db"], ["ob"]),
        helper.make_node("Add", ["oa", "ob"], ["y"]),
    ]
    weights = {"a": (6, width), "da": (width, 4), "b": (6, width), "db": np.zeros((width, 4), np.float32)}
    return make_model(nodes, {"x": (batch, 6)}, ["y"], weights)


BUDGET = Budget(max_macs=0.6)
X = normal(200, 6)


def measured(
    coupling: Coupling, x: np.ndarray = X, *, together: bool = True
) -> tuple[Scores, list[Choice], dict[int, np.ndarray]]:
    data = given(coupling, x=x)
    statistics = calibrate(coupling, data, ["gram", "mean", "second"], positions=None)
    scores = score(coupling, "obs", data={"statistics": statistics})
    choices = choices_for(coupling, scores, BUDGET, round_to=1)
    return scores, choices, measured_losses(coupling, choices, data, positions=None, together=together)


def test_curves_fall_to_nothing_and_dead_units_cost_nothing() -> None:
    coupling = analyse(model())
    scores, _, losses = measured(coupling)
    by_name = {group.name: losses[group.index] for group in coupling.groups}
    alive, dead = by_name["a:1"], by_name["b:1"]
    assert alive.shape == dead.shape == (17,)
    assert (alive[16], dead[16]) == (0, 0)
    assert np.all(np.diff(alive) <= 0)
    assert alive[8] > 1e-3
    assert np.all(dead[2:] == 0)
    chosen = plan(coupling, scores, BUDGET, round_to=1, ranking="efficient", losses=losses)
    kept = {group.name: len(group.kept) for group in chosen.groups}
    assert kept["a:1"] == 16
    assert kept["b:1"] < 5
    assert chosen.settings["losses"] == "measured"


def test_the_same_again_is_the_same() -> None:
    coupling = analyse(model())
    one, other = measured(coupling)[2], measured(coupling)[2]
    assert {k: v.tolist() for k, v in one.items()} == {k: v.tolist() for k, v in other.items()}


def test_counts_that_were_measured_are_the_levels_and_others_lie_between() -> None:
    coupling = analyse(model())
    curve = measured(coupling)[2][0]
    counts = sorted({round(16 * (1 - share)) for share in LEVELS})
    assert counts == [*range(1, 16)]
    assert np.all(np.diff(curve) < 0)
    wide = measured(analyse(model(width=32)))[2][0]
    for low in (2, 8, 28):  # every other count is measured
        assert wide[low + 1] == pytest.approx((wide[low] + wide[low + 2]) / 2)
    assert wide[1] - wide[2] == pytest.approx(wide[2] - wide[4])


def test_what_is_fitted_together_later_counts_for_less() -> None:
    """`a` lies between two layers with a Relu, `b` between two with a Sin."""
    proto = model()
    next(node for node in proto.graph.node if node.input[0] == "hb").op_type = "Sin"
    for tensor in proto.graph.initializer:
        if tensor.name == "db":
            tensor.CopyFrom(onnx.numpy_helper.from_array(normal(16, 4, seed=5), "db"))
    coupling = analyse(proto)
    rows = (200 - 66) / (6 * 16 + 16 * 4)  # for each weight: a third of the samples judges
    expected = 1 - 0.47 * rows / (rows + 2)
    now, alone = measured(coupling)[2], measured(coupling, together=False)[2]
    for group in coupling.groups:
        assert alone[group.index][8] > 1e-3
        share = now[group.index][8] / alone[group.index][8]
        assert now[group.index] == pytest.approx(share * alone[group.index])
        assert share == pytest.approx({"a:1": expected, "b:1": 1.0}[group.name])


def test_what_is_hopeless_is_not_measured_further() -> None:
    """Probabilities of logits a million times as large: losing much is ruin, and below that the curve goes on up."""
    large = model()
    large.graph.node[-1].output[0] = "scores"
    large.graph.node.append(helper.make_node("Softmax", ["scores"], ["y"]))
    for tensor in large.graph.initializer:
        if tensor.name == "da":
            array = onnx.numpy_helper.to_array(tensor) * 1e6
            tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float32), "da"))
    curve = measured(analyse(large), together=False)[2][0]
    assert np.all(np.diff(curve) <= 0)
    last = int(np.flatnonzero(curve > HOPELESS)[-1])
    assert last > 2
    assert curve[last] > HOPELESS > curve[last + 1]
    steep = 2 * (curve[last] - curve[last + 1])  # twice as steep as between these two
    assert np.diff(curve[: last + 1]) == pytest.approx(-steep)
    assert np.all(np.isfinite(curve))


def test_a_model_of_a_large_fixed_batch_is_run_on_a_whole_one() -> None:
    coupling = analyse(model(150))
    losses = measured(coupling, normal(150, 6))[2]
    assert losses[0][8] > 1e-3


def test_progress_is_told() -> None:
    coupling = analyse(model())
    _, choices, _ = measured(coupling)
    told: list[tuple[int, int]] = []
    data = given(coupling, x=X)
    measured_losses(coupling, choices, data, progress=lambda *now: told.append(now))
    assert told == [(0, 2), (1, 2), (2, 2)]


def test_a_group_whose_count_is_given_is_measured_at_no_other() -> None:
    coupling = analyse(model())
    data = given(coupling, x=X)
    whole = Choice(coupling.groups[0], Counts(16, 16), np.ones(16))
    (curve,) = measured_losses(coupling, [whole], data).values()
    assert curve[16] == 0
    assert np.all(np.diff(curve) < 0)
