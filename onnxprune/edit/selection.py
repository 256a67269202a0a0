"""What a plan removes from an analysed model, once it is certain that the plan fits the model."""

from __future__ import annotations

import difflib

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.coupling.orders import Orders
from onnxprune.errors import PlanError
from onnxprune.types import PLAN_SCHEMA, GroupPlan, Plan

_REPLAN = "make a new plan for this model"


def removed_classes_of(coupling: Coupling, plan: Plan) -> np.ndarray:
    """Classes (bool, one per class of `coupling.solution`) that go when `plan` is carried out.

    Raises PlanError where the plan does not fit the groups that were found: an unknown schema or group, another
    size, kept indices out of range or given twice, no unit kept. The model's hash, which takes a pass over all
    weights, is looked at by `check_plan` only.
    """
    if plan.schema != PLAN_SCHEMA:
        raise PlanError(
            f"the plan has schema {plan.schema}, this version reads {PLAN_SCHEMA}",
            remedy="use the version that made it",
        )
    found = {group.name: group for group in coupling.groups}
    kept: dict[int, list[int]] = {}
    for item in plan.groups:
        group = found.get(item.name)
        if group is None:
            near = difflib.get_close_matches(item.name, found, n=3, cutoff=0.0)
            raise PlanError(
                f"the plan has a group {item.name!r}, the model has none of that name",
                remedy=f"the nearest: {', '.join(near)}" if near else "the model has no groups",
            )
        if group.index in kept:
            raise PlanError(f"the plan has the group {item.name!r} twice", remedy="leave one of them")
        kept[group.index] = _kept(item, group.size)
    return coupling.removed_classes(kept)


def orders_of(coupling: Coupling, plan: Plan) -> Orders | None:
    """The order into which stored tensors are brought before units are removed; None where they stay as they are.

    To be asked for once `removed_classes_of` has taken the plan. Raises PlanError for a group whose blocks cannot lose
    different members, and for blocks that are none of it.
    """
    choices = {}
    index = {group.name: group.index for group in coupling.groups}
    for item in plan.groups:
        if item.blocks:
            choices[index[item.name]] = _choice(coupling, index[item.name], item)
    return Orders(coupling, choices) if choices else None


def _choice(coupling: Coupling, index: int, item: GroupPlan) -> np.ndarray:
    """For each block of a group the member that comes to each place (int64 [blocks, members])."""
    found = coupling.balance.balanced.get(index)
    where = f"group {item.name!r}"
    if found is None:
        why = coupling.balance.reasons.get(index, "it has no blocks")
        raise PlanError(f"{where}: the plan keeps different units per block, which cannot be: {why}", remedy=_REPLAN)
    if len(item.blocks) != found.blocks:
        raise PlanError(f"{where} has {found.blocks} blocks, in the plan {len(item.blocks)}", remedy=_REPLAN)
    choice = np.empty((found.blocks, found.members), np.int64)
    places = sorted(item.kept)
    others = np.setdiff1d(np.arange(found.members), places)
    for number, block in enumerate(item.blocks):
        if len(set(block)) != len(block) or len(block) != len(places) or not set(block) <= set(range(found.members)):
            raise PlanError(
                f"{where}: block {number} of the plan is no choice of {len(places)} of {found.members} units",
                remedy=_REPLAN,
            )
        choice[number, places] = block
        choice[number, others] = np.setdiff1d(np.arange(found.members), block)
    return choice


def check_plan(coupling: Coupling, plan: Plan) -> np.ndarray:
    """`removed_classes_of`, after making sure that the plan was made for this very model.

    Raises PlanError for another model (its hash differs), and as `removed_classes_of` does.
    """
    actual = coupling.view.model.digest
    if plan.model_digest != actual:
        raise PlanError(
            f"the plan is for another model, of hash {plan.model_digest[:12]}…; this one's is {actual[:12]}…",
            remedy=_REPLAN,
        )
    return removed_classes_of(coupling, plan)


def _kept(item: GroupPlan, size: int) -> list[int]:
    """The kept indices, sorted. Raises PlanError where they are no choice among `size` units."""
    where = f"group {item.name!r}"
    if item.size != size:
        raise PlanError(f"{where} has {item.size} units in the plan and {size} in the model", remedy=_REPLAN)
    kept = sorted(item.kept)
    if not kept:
        raise PlanError(f"{where}: the plan keeps none of its {size} units", remedy="one of them must stay")
    for unit, following in zip(kept, [*kept[1:], None], strict=True):
        if not 0 <= unit < size:
            raise PlanError(f"{where}: the plan keeps unit {unit} of {size}", remedy=f"units are 0 to {size - 1}")
        if unit == following:
            raise PlanError(f"{where}: the plan keeps unit {unit} twice", remedy="name every unit once")
    return kept
