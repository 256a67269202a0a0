"""From the planning options of the command line to a plan; shared by `plan` and `prune`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from onnxprune.cli.calibration import Calibrating, Judging, cache_folder, influence, measure, needs_of
from onnxprune.cli.clocking import AUTO, Clocking, Wish, in_time, measured_as_json, not_slower, read_round_to
from onnxprune.cli.explaining import Row, rows_of, with_errors
from onnxprune.cli.options import Budgets, Choosing, Reach
from onnxprune.cli.reading import read_ratios
from onnxprune.cli.session import Session
from onnxprune.cli.weighing import losses_of, way_of
from onnxprune.errors import SettingError
from onnxprune.types import Budget, Plan

if TYPE_CHECKING:
    from onnxprune.coupling.coupling import Coupling
    from onnxprune.plan.meeting import Met
    from onnxprune.plan.table import LatencyTable
    from onnxprune.repair.layer import Refit
    from onnxprune.runtime.data import Data

SUFFIX = ".prune.json"
_ROWS = 30
_NAMED = 3  # groups that a warning names


def default_plan_path(model: Path) -> Path:
    """Where a model's plan goes: `net.onnx` -> `net.prune.json`; another suffix stays, `net.v1` and `net.v2` differ."""
    return model.with_name((model.stem if model.suffix == ".onnx" else model.name) + SUFFIX)


def read_budget(given: Budgets) -> Budget:
    """What the plan must meet. Raises SettingError where no budget is given or one cannot be read."""
    from onnxprune.plan import parse_amount

    if given == Budgets():
        raise SettingError(
            "no budget is given",
            remedy="give --pruning-ratio 0.5, --max-macs 50%, --max-params 50%, --max-bytes 5M, --max-activations 50%, "
            "--max-latency 50%, --drop-blocks 2 or --layer-ratio",
        )

    def read(text: str | None, option: str) -> float | int | None:
        return None if text is None else parse_amount(text, option)

    return Budget(
        ratio=given.pruning_ratio,
        max_macs=read(given.max_macs, "--max-macs"),
        max_parameters=read(given.max_params, "--max-params"),
        max_bytes=read(given.max_bytes, "--max-bytes"),
        max_activations=read(given.max_activations, "--max-activations"),
        ratios=read_ratios(given.layer_ratio),
    )


@dataclass(frozen=True)
class Choice:
    """A plan, a row per group, and what was measured of it where time is limited."""

    plan: Plan
    rows: list[Row]
    met: Met | None


def choose(
    here: Session,
    coupling: Coupling,
    budget: Budget,
    reach: Reach,
    choosing: Choosing,
    judging: Judging,
    calibrating: Calibrating,
    clocking: Clocking,
    wish: Wish | None,
    drop: int | Literal["auto"] | None,
    data: Data | None = None,
) -> Choice:
    """A plan; `wish` is what --max-latency asks for, `drop` what --drop-blocks does, `data` what --data is."""
    from onnxprune.importance import score
    from onnxprune.plan import plan

    how = way_of(budget, choosing, wish, drop, data)
    within = _within(coupling, reach, budget)
    cache = cache_folder(calibrating)
    round_to = read_round_to(here, choosing.round_to, coupling, cache)
    kinds = needs_of(how.criterion)
    if data is not None and not kinds and drop is None and not how.measured:
        here.warn(f"--data is not used to choose: the criterion {how.criterion} looks at the weights alone")
    measured = measure(here, coupling, how.criterion, kinds, calibrating, data)
    with here.step("Scoring units"):
        scores = score(
            coupling,
            how.criterion,
            seed=here.seed,
            normalise=judging.normalise,
            aggregate=judging.aggregate,
            data=measured,
            balanced=choosing.balanced,
        )
    blocks = _blocks(here, coupling, drop, calibrating, data)
    losses = losses_of(
        here, coupling, scores, budget, {**within, "round_to": round_to}, choosing, how, calibrating, data
    )

    def planned(budget: Budget, round_to: int | None, latency: LatencyTable | None = None) -> Plan:
        return plan(
            coupling, scores, budget,
            round_to=round_to, latency=latency, ranking=how.ranking, losses=losses, **within, **blocks,
        )  # fmt: skip

    met = None
    if wish is None:
        with here.step("Planning"):
            chosen = planned(budget, round_to)
        if choosing.round_to == AUTO and not chosen.is_empty:
            chosen = not_slower(here, coupling, clocking, lambda step: planned(budget, step), round_to)
    else:
        met = in_time(
            here,
            coupling,
            clocking,
            wish,
            lambda table, share: planned(replace(budget, max_latency=share), round_to, table),
            round_to=round_to,
            cache=cache,
        )
        chosen = met.plan
    for why, names in _by_reason(coupling, scores.unscored).items():
        listed = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        here.warn(f"{how.criterion} leaves groups whole: {listed}: {why}")
    rows = rows_of(coupling, chosen, scores, losses, None if met is None else met.table)
    if chosen.dropped:
        here.say_plain(f"residual blocks that go whole: {', '.join(chosen.dropped)}")
    if chosen.is_empty:
        here.warn("the plan removes nothing: the budget is met without, or rounding takes every group back to its size")
    return Choice(chosen, rows, met)


def _within(coupling: Coupling, reach: Reach, budget: Budget) -> dict[str, Any]:
    """What `plan` may touch. Raises SettingError, before anything is measured, for what names nothing."""
    from onnxprune.plan.scope import groups_in_scope, ratios_by_group

    groups_in_scope(coupling, **reach.groups)
    ratios_by_group(coupling, budget.ratios)
    return {"min_keep": reach.min_keep, "max_ratio": reach.max_ratio, **reach.groups}


def explained(coupling: Coupling, choice: Choice, layers: Sequence[Refit]) -> Choice:
    """The choice with what repair did to the layers that read each group."""
    return replace(choice, rows=with_errors(coupling, choice.plan, choice.rows, layers))


def _blocks(
    here: Session, coupling: Coupling, drop: int | Literal["auto"] | None, given: Calibrating, data: Data | None
) -> dict[str, Any]:
    """What `plan` is to do with residual blocks: those of least influence go, or as many as the budgets make."""
    if drop is None:
        return {}
    known = len(coupling.blocks)
    if not known or (drop != AUTO and drop > known):
        raise SettingError(
            f"--drop-blocks {drop}: the model has {known or 'no'} residual blocks that can go whole",
            remedy=f"give at most {known}" if known else "leave it out",
        )
    found = influence(here, coupling, given, data)
    if drop == AUTO:
        return {"influence": found}
    return {"dropped": sorted(found, key=lambda name: found[name])[:drop]}


def read_drop(text: str | None, budget: Budget, wish: Wish | None) -> int | Literal["auto"] | None:
    """--drop-blocks as a number or `auto`, which needs another budget. Raises SettingError for anything else."""
    from onnxprune.plan.limits import limited

    if text is None or text.isdecimal():
        return int(text or 0) or None
    if text != AUTO:
        raise SettingError(f"--drop-blocks {text!r} is no number", remedy="give a whole number, or auto")
    if wish is None and not limited(budget):
        raise SettingError("--drop-blocks auto: no budget says how many", remedy="give --max-macs 50%, say")
    return AUTO


def _by_reason(coupling: Coupling, unscored: Mapping[int, str]) -> dict[str, list[str]]:
    """Why a criterion cannot judge groups -> their names."""
    found: dict[str, list[str]] = {}
    for index, why in unscored.items():
        found.setdefault(why, []).append(coupling.groups[index].name)
    return found


def show(here: Session, plan: Plan, rows: list[Row], *, with_costs: bool = True) -> None:
    """Print a plan for a person."""
    from onnxprune.cli.tables import before_after, plan_table

    here.say(plan_table(rows, None if here.verbose else _ROWS))
    if with_costs:
        here.say(before_after(costs(plan)))


_TITLES = {
    "parameters": "parameters",
    "macs": "MACs",
    "bytes": "file bytes, predicted",
    "activations": "activations, bytes at once",
    "latency": "milliseconds, by the latency table",
}


def costs(plan: Plan, *, predicted: bool = True) -> dict[str, tuple[float, float]]:
    """Name -> before and after, for tables; without `predicted`, only what is not to be measured on the result."""
    if plan.before is None or plan.after is None:
        return {}
    before, after = plan.before.known(), plan.after.known()
    return {title: (before[name], after[name]) for name, title in _TITLES.items()
            if name in after and (predicted or name != "bytes")}  # fmt: skip


def as_json(plan: Plan) -> dict[str, Any]:
    """What a plan costs, for a machine; the whole plan is in its file."""
    cost = {name: c.known() for name, c in (("before", plan.before), ("after", plan.after)) if c is not None}
    data = {"data": plan.settings["data"]} if "data" in plan.settings else {}
    blocks = {"dropped": list(plan.dropped)} if plan.dropped else {}
    return {"model_digest": plan.model_digest, **cost, **blocks, **data}


def choice_as_json(choice: Choice) -> dict[str, Any]:
    """What the plan costs, what goes, and what was measured, for a machine."""
    rows = {"groups": [row.as_json() for row in choice.rows]}
    return {**as_json(choice.plan), **rows, **measured_as_json(choice.met)}
