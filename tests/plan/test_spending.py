"""Spending: what goes is what loses least for what it saves."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onnxprune.analyse import analyse
from onnxprune.coupling.coupling import Coupling
from onnxprune.errors import BudgetError
from onnxprune.importance import Scores
from onnxprune.plan import plan
from onnxprune.plan.choices import Choice
from onnxprune.plan.counts import Counts
from onnxprune.plan.spending import kept_share, readers
from onnxprune.types import Budget, Plan
from tests.support.planning import PIXELS, conv_chain


def even(coupling: Coupling) -> Scores:
    return Scores(tuple(np.ones(g.size) for g in coupling.groups), "given")


def sizes(made: Plan) -> list[int]:
    return [len(group.kept) for group in made.groups]


def test_the_loss_is_the_logarithm_of_the_importance_kept() -> None:
    (group,) = analyse(conv_chain((4,))).groups
    loss = kept_share(Choice(group, Counts(4, 1), np.array([1.0, 5.0, 2.0, 0.0])), 2)
    np.testing.assert_allclose(loss[1:], [-2 * math.log(5 / 8), -2 * math.log(7 / 8), 0, 0])
    assert loss[0] > 50


def test_readers_are_those_that_sum_over_the_units() -> None:
    coupling = analyse(conv_chain((4, 6)))
    choices = [Choice(g, Counts(g.size, 1), np.ones(g.size)) for g in coupling.groups]
    assert readers(coupling, choices) == [1, 1]


def test_units_go_where_they_are_cheap() -> None:
    """Per pixel 3 a + a b + 5 b MACs. Of b = 64, 16 units save 16 (16 + 5), a's 4 save 4 (3 + 64): b goes first."""
    coupling = analyse(conv_chain((16, 64)))
    made = plan(coupling, even(coupling), Budget(max_macs=0.8), ranking="efficient", round_to=4)
    assert made.after is not None
    assert made.before is not None
    assert made.after.macs <= 0.8 * made.before.macs
    given = {g.index: np.linspace(1000, 0, g.size + 1) for g in coupling.groups[1:]}
    dear = plan(coupling, even(coupling), Budget(max_macs=0.8), ranking="efficient", round_to=4, losses=given)
    assert sizes(dear)[1] == 64  # losses that are given count instead of the scores
    assert sizes(dear)[0] < sizes(made)[0]


def test_several_limits_and_what_is_not_needed_comes_back() -> None:
    coupling = analyse(conv_chain((64, 64)))
    budget = Budget(max_macs=0.9, max_activations=0.5)
    made = plan(coupling, even(coupling), budget, ranking="efficient", round_to=8)
    assert sizes(made) == [32, 32]  # both are a peak of their own: 4 PIXELS (64 + 64) each
    assert made.after is not None
    assert made.after.activations == 4 * PIXELS * 64


def test_a_ratio_of_its_own_and_the_floor_are_kept() -> None:
    coupling = analyse(conv_chain((64, 64)))
    own = plan(coupling, even(coupling), Budget(max_macs=0.5, ratios={"w0:0": 0.25}), ranking="efficient")
    assert sizes(own)[0] == 48
    floor = plan(coupling, even(coupling), Budget(ratio=0.5, max_macs=0.9), ranking="efficient")
    assert sizes(floor) == [32, 32]


def test_out_of_reach() -> None:
    coupling = analyse(conv_chain((32, 16)))
    with pytest.raises(BudgetError, match=r"--max-macs allows .* 8\.19K \(18\.6%\) remain with every group"):
        plan(coupling, even(coupling), Budget(max_macs=0.1), ranking="efficient")


def test_bytes_are_those_of_the_edited_model() -> None:
    coupling = analyse(conv_chain((64, 64)))
    for ranking in ("local", "efficient"):
        made = plan(coupling, even(coupling), Budget(max_bytes=0.5), ranking=ranking)
        assert made.after is not None
        assert made.before is not None
        assert made.after.bytes <= 0.5 * made.before.bytes
