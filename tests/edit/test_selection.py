"""A plan is carried out only where it fits the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from onnxprune.analyse import analyse
from onnxprune.coupling.coupling import Coupling
from onnxprune.edit.selection import check_plan, removed_classes_of
from onnxprune.errors import PlanError
from onnxprune.types import GroupPlan, Plan
from tests.support.planning import conv_chain


@pytest.fixture(scope="module")
def coupling() -> Coupling:
    return analyse(conv_chain((4, 3)))


def plan_of(coupling: Coupling, *groups: GroupPlan) -> Plan:
    return Plan(coupling.view.model.digest, groups, {})


FIRST, SECOND = GroupPlan("w0:0", 4, (3, 0)), GroupPlan("w1:0", 3, (1,))


def test_what_is_not_kept_goes(coupling: Coupling) -> None:
    removed = check_plan(coupling, plan_of(coupling, FIRST, SECOND))
    assert removed.tolist() == coupling.removed_classes({0: [0, 3], 1: [1]}).tolist()
    assert int(removed.sum()) == 4


def test_groups_that_are_not_named_stay_whole(coupling: Coupling) -> None:
    removed = removed_classes_of(coupling, plan_of(coupling, SECOND))
    assert removed.tolist() == coupling.removed_classes({1: [1]}).tolist()
    assert not removed_classes_of(coupling, plan_of(coupling)).any()


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (GroupPlan("w7:0", 4, (0,)), r"has a group 'w7:0', the model has none of that name. the nearest: w1:0, w0:0"),
        (GroupPlan("w0:0", 5, (0,)), r"'w0:0' has 5 units in the plan and 4 in the model"),
        (GroupPlan("w0:0", 4, ()), r"'w0:0': the plan keeps none of its 4 units"),
        (GroupPlan("w0:0", 4, (0, 4)), r"keeps unit 4 of 4. units are 0 to 3"),
        (GroupPlan("w0:0", 4, (-1, 2)), r"keeps unit -1 of 4"),
        (GroupPlan("w0:0", 4, (2, 0, 2)), r"keeps unit 2 twice"),
    ],
)
def test_a_group_that_does_not_fit_is_refused(coupling: Coupling, group: GroupPlan, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        removed_classes_of(coupling, plan_of(coupling, group))


def test_a_group_given_twice_is_refused(coupling: Coupling) -> None:
    with pytest.raises(PlanError, match="has the group 'w0:0' twice"):
        removed_classes_of(coupling, plan_of(coupling, FIRST, FIRST))


@pytest.mark.parametrize("check", [check_plan, removed_classes_of])
def test_another_schema_is_refused(coupling: Coupling, check: Callable[[Coupling, Plan], np.ndarray]) -> None:
    with pytest.raises(PlanError, match="the plan has schema 9"):
        check(coupling, replace(plan_of(coupling, FIRST), schema=9))


def test_another_model_is_refused() -> None:
    one, other = analyse(conv_chain((4, 3))), analyse(conv_chain((4, 4)))
    made = plan_of(other, FIRST)
    with pytest.raises(PlanError, match=r"for another model, of hash [0-9a-f]{12}…; this one's is [0-9a-f]{12}…"):
        check_plan(one, made)
    assert removed_classes_of(one, made).any()  # which leaves the hash to check_plan
