"""Scores and a budget to a plan."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from typing import Any

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.edit.blocks import blocks_called
from onnxprune.edit.selection import orders_of, removed_classes_of
from onnxprune.errors import SettingError
from onnxprune.graph.uncollected import uncollected
from onnxprune.importance import Scores
from onnxprune.plan.choices import Choice
from onnxprune.plan.costs import Costs
from onnxprune.plan.counts import counts_for
from onnxprune.plan.finding import EFFICIENT, Blocks, Finder
from onnxprune.plan.limits import limited, limits
from onnxprune.plan.predicting import Predictor
from onnxprune.plan.scope import check_ratio, groups_in_scope, ratios_by_group
from onnxprune.plan.structures import structures
from onnxprune.plan.table import LatencyTable, table_to_json
from onnxprune.plan.tensors import kept_tensors
from onnxprune.types import Budget, GroupPlan, Plan

ROUND_TO = 8


@uncollected()
def plan(
    coupling: Coupling,
    scores: Scores,
    budget: Budget,
    *,
    round_to: int | None = ROUND_TO,
    min_keep: int = 1,
    max_ratio: float | None = None,
    only: Collection[str] = (),
    ignore: Collection[str] = (),
    scope: Collection[str] | None = None,
    exact_only: bool = False,
    ranking: str = "local",
    losses: Mapping[int, np.ndarray] | None = None,
    latency: LatencyTable | None = None,
    dropped: Collection[str] = (),
    influence: Mapping[str, float] | None = None,
) -> Plan:
    """Choose which units go.

    **Budget.** `budget.ratio` is the share of units removed per group (with ranking "global": of all units
    together). With limits (`max_macs` and so on) it is the floor, and the smallest share from there on is taken whose
    exact cost is within all of them. `budget.ratios` gives groups, and layers for the units that they put
    out, a ratio of their own, which the search leaves alone (0 keeps a group whole).

    **Ranking.** "local" takes the same share from each group, its lowest scores. "global" removes the lowest scores
    of all groups together, for which the scores should be normalised per group (they are, unless told otherwise).
    "isomorphic" does so among groups that are built alike (structures.py), the same share of each such pool.
    "efficient" takes what loses least for what it saves of the limited quantities (spending.py); `losses` says by group
    index what keeping n of its units loses (float64 [size + 1]), unless it is to follow from the scores.

    **Latency.** `max_latency` needs a `latency` table of this model (timing.py), by which the time of every choice is
    predicted.

    **Blocks.** The residual blocks (`coupling.blocks`) named in `dropped` go whole. With `influence` (of each block,
    see runtime/influence.py) and the ranking "efficient" others go, too, where they cost less than units do.

    **Rounding.** A group of at least 2 x `round_to` units is left with the multiple of `round_to` nearest to what the
    share asks for (the larger of two), never fewer than `round_to`, or left whole. Smaller groups, heads and experts
    are not rounded: the nearest whole number stays. None or 1 turns it off. Limits hold after rounding.

    **Bounds.** At least `min_keep` units of each group stay, and at most a share of `max_ratio` goes.

    **Groups.** `only` and `ignore` are globs over names of groups, tensors and nodes; a group that touches what they
    name is meant, and `ignore` wins. `scope` is a set of types.KINDS. `exact_only` leaves out groups over whose units
    a statistic runs. Groups that the criterion could not judge (`scores.unscored`) stay whole.

    Raises SettingError for a bad value or a name that nothing has, BudgetError, which says how far one can get, for
    a budget that cannot be met.
    """
    _check(coupling, scores, budget, round_to, min_keep, max_ratio, latency, dropped)
    choices = choices_for(
        coupling, scores, budget, round_to=round_to, min_keep=min_keep, max_ratio=max_ratio, only=only, ignore=ignore,
        scope=scope, exact_only=exact_only,
    )  # fmt: skip
    blocks = _blocks(coupling, dropped, influence if ranking == EFFICIENT else None)
    predict = None if latency is None else Predictor(coupling, latency)
    costs = Costs(coupling, choices, limited(budget), predict, blocks.blocks)
    finder = Finder(coupling, choices, costs, ranking, budget.ratio or 0.0, losses, blocks)
    found = finder.find(limits(budget, costs.dense))
    kept = {c.group.name: c.best(count) for c, count in zip(choices, found.counts, strict=False)}
    gone = [block.name for block in blocks.gone(found.counts[len(choices) :])]
    settings = {
        "criterion": scores.criterion,
        "normalise": scores.normalise,
        "seed": scores.seed,
        "budget": {name: given for name, given in asdict(budget).items() if given not in (None, {})},
        "share": None if found.share is None else round(found.share, 6),
        "ranking": ranking,
        "round_to": round_to,
        "min_keep": min_keep,
        "max_ratio": max_ratio,
        "only": list(only),
        "ignore": list(ignore),
        "scope": None if scope is None else sorted(scope),
        "exact_only": exact_only,
        "balanced": scores.balanced,
        "aggregate": scores.aggregate,
    }
    if losses is not None:
        settings["losses"] = "measured"
    if latency is not None:
        settings["latency_table"] = sha256(table_to_json(latency).encode()).hexdigest()
    if unscored := [coupling.groups[index].name for index in sorted(scores.unscored)]:
        settings["unscored"] = unscored
    if scores.data:
        settings["data"] = dict(scores.data)
    members: dict[str, list[list[int]]] = {}
    for group in coupling.groups:
        if group.index in scores.choices and len(kept.get(group.name, ())) not in (0, group.size):
            members[group.name] = scores.choices[group.index][:, kept[group.name]].tolist()
    if influence is not None:
        settings["influence"] = {name: round(value, 6) for name, value in influence.items()}
    return replace(plan_for(coupling, kept, settings, members, gone), before=costs.dense, after=found.cost)


def choices_for(
    coupling: Coupling,
    scores: Scores,
    budget: Budget,
    *,
    round_to: int | None = ROUND_TO,
    min_keep: int = 1,
    max_ratio: float | None = None,
    only: Collection[str] = (),
    ignore: Collection[str] = (),
    scope: Collection[str] | None = None,
    exact_only: bool = False,
) -> list[Choice]:
    """The groups that `plan` chooses among, given the same, with how many units of each may stay."""
    own = ratios_by_group(coupling, budget.ratios)
    built = structures(coupling)
    return [
        Choice(
            group,
            counts_for(group, round_to=round_to, min_keep=min_keep, max_ratio=max_ratio),
            scores[group.index],
            own.get(group.index),
            built[group.index],
        )
        for group in groups_in_scope(coupling, only=only, ignore=ignore, scope=scope, exact_only=exact_only)
        if group.index not in scores.unscored
    ]


def plan_for(
    coupling: Coupling,
    kept: Mapping[str, Sequence[int]],
    settings: Mapping[str, Any] | None = None,
    blocks: Mapping[str, Sequence[Sequence[int]]] | None = None,
    dropped: Collection[str] = (),
) -> Plan:
    """The plan that keeps the named groups' units `kept[group name]` and all units of all other groups.

    `dropped` names residual blocks (`coupling.blocks`) that go whole.

    `blocks` gives for groups that can be balanced (`coupling.balance`) the members that each block keeps, as many as
    `kept` has units: they take the places of these.

    Raises PlanError for a group, units or blocks of either kind that the model does not have, and for none kept.
    """
    stay = {name: tuple(sorted(int(unit) for unit in units)) for name, units in kept.items()}
    parts = {name: tuple(tuple(sorted(int(m) for m in block)) for block in of) for name, of in (blocks or {}).items()}
    whole = {group.name: (group.size, tuple(range(group.size))) for group in coupling.groups}
    unknown = [GroupPlan(name, len(units), units) for name, units in stay.items() if name not in whole]
    groups = tuple(
        GroupPlan(name, size, stay.get(name, all_), parts.get(name, ())) for name, (size, all_) in whole.items()
    )
    chosen = Plan("", (*groups, *unknown), {}, settings=dict(settings or {}))
    removed = removed_classes_of(coupling, chosen)
    cuts = kept_tensors(coupling, removed, orders_of(coupling, chosen))
    gone = blocks_called(coupling, dropped)
    orphans = coupling.without(gone).orphans
    return replace(
        chosen,
        dropped=tuple(block.name for block in gone),
        model_digest=coupling.view.model.digest,
        tensors={name: cut for name, cut in cuts.tensors.items() if name not in orphans},
        shared={name: cut for name, cut in cuts.shared.items() if name not in orphans},
        rows={name: cut for name, cut in cuts.rows.items() if name not in orphans},
        analysis={**coupling.options, "bound": dict(coupling.bindings.dims)},
        before=coupling.cost(),
        after=coupling.cost(removed, gone),
    )


def _blocks(coupling: Coupling, dropped: Collection[str], influence: Mapping[str, float] | None) -> Blocks:
    """Those that are gone, and with `influence` those that may go.

    Without a block what passes is off by the sine of the angle that it would have been turned by; the loss is minus the
    logarithm of what is left of 1, as `kept_share` has it of units.
    """
    gone = blocks_called(coupling, dropped)
    if not influence:
        return Blocks(tuple(gone), (0,) * len(gone), (0.0,) * len(gone))
    free = [block for block in coupling.blocks if block not in gone and block.name in influence]
    cosines = [min(max(1 - influence[block.name], 0.0), 1.0) for block in free]
    losses = [-math.log(max(1 - math.sqrt(1 - cosine**2), 1e-12)) for cosine in cosines]
    return Blocks((*gone, *free), (*[0] * len(gone), *[1] * len(free)), (*[0.0] * len(gone), *losses))


def _check(
    coupling: Coupling,
    scores: Scores,
    budget: Budget,
    round_to: int | None,
    min_keep: int,
    max_ratio: float | None,
    latency: LatencyTable | None,
    dropped: Collection[str],
) -> None:
    if [np.shape(values) for values in scores.values] != [(group.size,) for group in coupling.groups]:
        raise SettingError("the scores are not of this model's groups", remedy="score the same coupling")
    if budget == Budget() and not dropped:
        raise SettingError(
            "no budget is given", remedy="give a ratio of units to remove, or the MACs or parameters to keep"
        )
    if budget.max_latency is not None and latency is None:
        raise SettingError("a limit on latency needs a latency table", remedy="measure one with measure_table")
    if budget.ratio is not None:
        check_ratio(budget.ratio, "--pruning-ratio")
    if max_ratio is not None:
        check_ratio(max_ratio, "--max-ratio")
    for option, value in (("--round-to", round_to), ("--min-keep", min_keep)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise SettingError(f"{option} is {value}", remedy="it is a whole number of at least 1")
