"""Time on the command line: latency tables, the user's own clock, plans that are measured, the runtime's step."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from onnxprune.cli.progress import samples_bar
from onnxprune.cli.session import Session
from onnxprune.errors import BudgetError, SettingError

if TYPE_CHECKING:
    from onnxprune.cli.watch import CommandWatch, Watch
    from onnxprune.coupling.coupling import Coupling
    from onnxprune.plan.meeting import Comparison, Met
    from onnxprune.plan.table import LatencyTable
    from onnxprune.types import Plan

AUTO: Literal["auto"] = "auto"
_PANEL = "Latency"
_FORM = re.compile(r"(?P<number>\d+(?:\.\d*)?|\.\d+)\s*(?P<unit>%|ms|us|s)?", re.IGNORECASE)
_TO_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True)
class Clocking:
    """How time is measured, for --max-latency."""

    latency_table: Annotated[
        Path | None,
        typer.Option(
            "--latency-table",
            rich_help_panel=_PANEL,
            metavar="FILE",
            help="A latency table: read if it is there, else measured and written.  [default: the cache]",
        ),
    ] = None
    latency_cmd: Annotated[
        str | None,
        typer.Option(
            "--latency-cmd",
            rich_help_panel=_PANEL,
            metavar="CMD",
            help="Times candidates elsewhere: 'ssh board bench {model}' prints milliseconds.",
        ),
    ] = None


@dataclass(frozen=True)
class Wish:
    """What --max-latency asks for: a share (0 to 1) of the dense model's time, or milliseconds."""

    amount: float
    is_share: bool


def read_latency(text: str | None, given: Clocking) -> Wish | None:
    """50%, 0.5, 12ms, 800us or 1.2s; None where time is not limited. Raises SettingError for anything else."""
    if text is None:
        if given.latency_table is not None:
            raise SettingError("--latency-table is of use for --max-latency alone", remedy="give --max-latency too")
        return None
    match = _FORM.fullmatch(text.strip())
    number, unit = (float(match["number"]), (match["unit"] or "").lower()) if match else (0.0, "")
    if unit in _TO_MS and number > 0:
        return Wish(number * _TO_MS[unit], False)
    share = number / 100 if unit == "%" else number
    if unit in ("", "%") and 0 < share <= 1:
        return Wish(share, True)
    raise SettingError(
        f"--max-latency {text!r} is no time",
        remedy="give a share of the dense model's time such as 50%, or such as 12ms",
    )


def read_round_to(here: Session, text: str, coupling: Coupling, cache: Path | None) -> int:
    """--round-to as a number; `auto` finds the runtime's step, kept in the cache by machine and runtime."""
    if text != AUTO:
        if not text.isdecimal() or int(text) < 1:
            raise SettingError(f"--round-to {text!r} is no number", remedy="give a whole number of at least 1, or auto")
        return int(text)
    from onnx import TensorProto

    from onnxprune.runtime.machine import identity
    from onnxprune.runtime.probe import rounding_step

    kinds = [coupling.shapes.dtype.get(name, 0) for name in coupling.parameters]
    half = kinds.count(TensorProto.FLOAT16) > len(kinds) / 2
    key = identity(here.options) | {"half": str(half), "what": "step"}
    path = _cached(cache, "step", key)
    step = _known_step(path)
    if step is None:
        with here.step("Finding the runtime's step"):
            step = rounding_step(here.options, half)
        _store(here, path, json.dumps({"step": step, **key}).encode())
    here.say_plain(f"kept units are multiples of {step}, the step of this runtime")
    return step


def _known_step(path: Path | None) -> int | None:
    if path is None or not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["step"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, int) and found > 0 else None


def in_time(
    here: Session,
    coupling: Coupling,
    given: Clocking,
    wish: Wish,
    planned: Callable[[LatencyTable, float], Plan],
    *,
    round_to: int,
    cache: Path | None,
) -> Met:
    """A plan within the time wished for, measured. `planned` makes one from a table and a share of the dense time."""
    from onnxprune.cli.watch import watch_for
    from onnxprune.plan.meeting import meet_latency

    watch = watch_for(here.options, coupling, given.latency_cmd)
    share = wish.amount if wish.is_share else min(wish.amount / watch.dense(), 1.0)
    table, target, is_fixed = _table(here, coupling, given, round_to, cache)

    def measured(plan: Plan) -> Comparison:
        return _compared(here, watch, plan)

    met = meet_latency(planned, table, measured, share, correct=not is_fixed)
    if not is_fixed and target is not None:
        from onnxprune.plan.table import table_to_json

        _store(here, target, table_to_json(met.table).encode(), must=given.latency_table is not None)
    _tell(here, met, share, is_fixed)
    return met


def not_slower(here: Session, coupling: Coupling, given: Clocking, planned: Callable[[int], Plan], step: int) -> Plan:
    """The plan that `planned` makes for `step`, or for a wider one where that is slower than the dense model.

    Raises BudgetError where all are.
    """
    from onnxprune.cli.watch import watch_for

    watch = watch_for(here.options, coupling, given.latency_cmd)
    for wider in (step, 2 * step, 4 * step):
        made = planned(wider)
        found = _compared(here, watch, made)
        if found.low <= 1:
            here.say_plain(_spelled(found))
            return made
        here.warn(f"with multiples of {wider} the pruned model takes {found.share:.1%} of the dense one's time")
    raise BudgetError(
        "--round-to auto: every plan for this budget is slower than the dense model",
        remedy="limit time itself, with --max-latency",
    )


def _compared(here: Session, watch: Watch | CommandWatch, plan: Plan) -> Comparison:
    with here.step("Timing a candidate"):
        found = watch.compare(plan)
    here.detail(f"a candidate takes {found.share:.1%} of the dense model's time")
    return found


def _spelled(found: Comparison) -> str:
    return (
        f"measured: {found.after:.3g} ms, the dense model {found.before:.3g} ms in the same run: {found.share:.1%} "
        f"({found.low:.1%} to {found.high:.1%})"
    )


def _tell(here: Session, met: Met, share: float, is_fixed: bool) -> None:
    found = met.measured
    here.say_plain(_spelled(found))
    if is_fixed and found.share > share:
        here.warn(
            f"--max-latency allows {share:.1%}, and by the table given the plan keeps to it; measured here it does not"
        )


def _table(
    here: Session, coupling: Coupling, given: Clocking, round_to: int, cache: Path | None
) -> tuple[LatencyTable, Path | None, bool]:
    """The table to plan by, the file it is kept in, and whether it is the user's: as it is, for the same plan again."""
    from onnxprune.plan.table import check_table, load_table
    from onnxprune.runtime.machine import identity

    path = given.latency_table
    if path is not None and path.exists():
        table = load_table(path)
        check_table(table, coupling, str(path))
        return table, path, True
    if path is None:
        shapes = {name: list(shape) for name, shape in coupling.bindings.shapes.items()}
        key = identity(here.options) | {"model": coupling.view.model.digest, "shapes": shapes, "round_to": round_to}
        path = _cached(cache, "latency", key)
        if path is not None and path.is_file():
            try:
                table = load_table(path)
                check_table(table, coupling, str(path))
            except SettingError as error:
                here.detail(f"measured anew: {error}")
            else:
                return table, path, False
    return _measured(here, coupling, round_to), path, False


def _measured(here: Session, coupling: Coupling, round_to: int) -> LatencyTable:
    from onnxprune.plan.timing import measure_table

    with samples_bar(here, "Timing layers", None) as progress:
        return measure_table(coupling, here.options, round_to=round_to, progress=progress)


def _cached(cache: Path | None, kind: str, key: Mapping[str, Any]) -> Path | None:
    if cache is None:
        return None
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:40]
    return cache / f"{kind}-{name}.json"


def _store(here: Session, path: Path | None, content: bytes, *, must: bool = False) -> None:
    """Write a file; what goes into the cache may fail."""
    from onnxprune.errors import OutputError
    from onnxprune.graph.atomic import AtomicFiles

    if path is None:
        return
    try:
        if not must:
            path.parent.mkdir(parents=True, exist_ok=True)
        with AtomicFiles() as files:
            files.create(path).write(content)
    except (OSError, OutputError) as error:
        if must:
            raise
        here.warn(f"the cache was not written: {error}")


def measured_as_json(met: Met | None) -> dict[str, Any]:
    """What was measured, for a machine."""
    if met is None:
        return {}
    return {"latency": {**vars(met.measured), "machine": met.table.machine}}
