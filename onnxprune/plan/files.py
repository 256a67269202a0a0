"""Plans as JSON: `*.prune.json`, for onnxprune and for whoever cuts a checkpoint the same way.

The format is stated in plan.schema.json beside this file. Lists of kept indices come back at many tensors, so each is
written once, under `indices`, and `tensors` gives its number there:

    plan = json.load(open("model.prune.json"))
    for name, axes in plan["tensors"].items():
        for axis, which in axes.items():
            weights[name] = weights[name].take(plan["indices"][which], axis=int(axis))

Where each block of a group keeps members of its own, the group has `blocks`, and an axis that is cut differently along
another one (the inputs of a grouped convolution, by its outputs) stands under `rows`: after the above,

    for name, axes in plan.get("rows", {}).items():
        for axis, cut in axes.items():  # cut["indices"] has a number for each index of the axis cut["by"]
            rows = [plan["indices"][which] for which in cut["indices"]]
            pieces = [
                weights[name].take([i], cut["by"]).take(row, int(axis)) for i, row in enumerate(rows)
            ]
            weights[name] = numpy.concatenate(pieces, cut["by"])
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from onnxprune.errors import PlanError
from onnxprune.graph.atomic import AtomicFiles
from onnxprune.plan.fields import Field
from onnxprune.plan.tensors import Cut, Indices
from onnxprune.types import PLAN_SCHEMA, Cost, GroupPlan, Plan, RowCut

SUFFIX = ".prune.json"
_REQUIRED = ("schema", "model_digest", "groups", "indices", "tensors", "shared", "analysis", "settings")
_OPTIONAL = ("before", "after", "rows", "dropped")


def to_json(plan: Plan) -> str:
    """The plan as a JSON document, in the order and with the line breaks in which a person would read it."""
    numbers: dict[Indices, int] = {}

    def number(kept: Indices) -> int:
        return numbers.setdefault(kept, len(numbers))

    def cut(axes: Cut) -> dict[str, int]:
        return {str(axis): number(kept) for axis, kept in axes.items()}

    def group(item: GroupPlan) -> dict[str, Any]:
        blocks = {"blocks": [number(block) for block in item.blocks]} if item.blocks else {}
        return {"name": item.name, "size": item.size, "kept": list(item.kept), **blocks}

    tensors = {name: cut(axes) for name, axes in plan.tensors.items()}
    shared = {name: {use: cut(axes) for use, axes in uses.items()} for name, uses in plan.shared.items()}
    rows = {
        name: {str(axis): {"by": c.by, "indices": [number(row) for row in c.indices]} for axis, c in axes.items()}
        for name, axes in plan.rows.items()
    }
    groups = [group(item) for item in plan.groups]
    document: dict[str, Any] = {
        "schema": plan.schema,
        "model_digest": plan.model_digest,
        "before": _cost(plan.before),
        "after": _cost(plan.after),
        "settings": plan.settings,
        "analysis": plan.analysis,
        "groups": groups,
        "dropped": list(plan.dropped) or None,
        "tensors": tensors,
        "shared": shared,
        "rows": rows or None,
        "indices": [list(kept) for kept in numbers],
    }
    return _spread({name: value for name, value in document.items() if value is not None}) + "\n"


def from_json(text: str, origin: str = "plan") -> Plan:
    """The plan in a JSON document; `origin` names it in errors.

    Raises PlanError for what is no JSON (or was cut off), an unknown schema, a field that is missing, unknown or of
    the wrong type. Whether the plan fits a model is for `check_plan` to say.
    """
    try:
        document = Field(origin, "", json.loads(text))
    except (ValueError, RecursionError) as error:  # ValueError: a number of thousands of digits, too
        raise PlanError(
            f"{origin}: this is no JSON: {error}", remedy="it may have been cut off: copy or make it again"
        ) from error
    if isinstance(document.value, dict) and document.value.get("schema", PLAN_SCHEMA) != PLAN_SCHEMA:
        raise PlanError(
            f"{origin}: the plan has schema {document.value['schema']}, this version reads {PLAN_SCHEMA}",
            remedy="use the version that made it, or make it again",
        )
    document.keys(_REQUIRED, _OPTIONAL)
    document["schema"].count()
    lists = [item.counts() for item in document["indices"].list()]
    return Plan(
        model_digest=document["model_digest"].string(),
        groups=tuple(_group(item, lists) for item in document["groups"].list()),
        tensors={name: _cut(axes, lists) for name, axes in document["tensors"].items()},
        shared={
            name: {use: _cut(axes, lists) for use, axes in uses.items()} for name, uses in document["shared"].items()
        },
        rows={
            name: {_axis(axis, item): _row_cut(item, lists) for axis, item in axes.items()}
            for name, axes in (document["rows"].items() if "rows" in document.value else ())
        },
        dropped=tuple(item.string() for item in document["dropped"].list()) if "dropped" in document.value else (),
        analysis=_analysis(document["analysis"]),
        settings=document["settings"].object(),
        before=_read_cost(document["before"]) if "before" in document.value else None,
        after=_read_cost(document["after"]) if "after" in document.value else None,
    )


def save_plan(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Write the plan to a file, whole or not at all. Raises OutputError where that cannot be."""
    with AtomicFiles() as files:
        files.create(Path(path)).write(to_json(plan).encode())


def load_plan(path: str | os.PathLike[str]) -> Plan:
    """Read a plan from a file. Raises PlanError where there is none, and as `from_json` does."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise PlanError(f"cannot read the plan {path}: {why}", remedy=f"give a *{SUFFIX} file") from error
    return from_json(text, str(path))


def _cost(cost: Cost | None) -> dict[str, float] | None:
    return None if cost is None else {name: value for name, value in asdict(cost).items() if value is not None}


def _read_cost(item: Field) -> Cost:
    item.keys(("parameters", "macs"), ("bytes", "activations", "latency"))
    counted = {name: field.count() for name, field in item.items() if name != "latency"}
    return Cost(**counted, latency=item["latency"].number() if "latency" in item.value else None)


def _analysis(item: Field) -> dict[str, Any]:
    """The options of the analysis as they are: they are used again as they stand, so they must be of their kinds."""
    item.keys((), ("bind", "bound", "input_shapes", "allow_io_change", "specialise_functions", "measured"))
    for name, field in item.items():
        if name == "allow_io_change":
            for entry in field.list():
                entry.string()
        elif name == "specialise_functions":
            field.truth()
        else:
            for _, entry in field.items():
                entry.count() if name in ("bind", "bound") else entry.counts()
    return item.object()


def _group(item: Field, lists: list[Indices]) -> GroupPlan:
    item.keys(("name", "size", "kept"), ("blocks",))
    blocks = tuple(_listed(which, lists) for which in item["blocks"].list()) if "blocks" in item.value else ()
    return GroupPlan(item["name"].string(), item["size"].count(), item["kept"].counts(), blocks)


def _cut(axes: Field, lists: list[Indices]) -> Cut:
    return {_axis(axis, which): _listed(which, lists) for axis, which in axes.items()}


def _row_cut(item: Field, lists: list[Indices]) -> RowCut:
    item.keys(("by", "indices"))
    return RowCut(item["by"].count(), tuple(_listed(which, lists) for which in item["indices"].list()))


def _axis(name: str, item: Field) -> int:
    if not name.isdecimal():
        raise item.wrong(f"{name!r} is no axis")
    return int(name)


def _listed(which: Field, lists: list[Indices]) -> Indices:
    number = which.count()
    if number >= len(lists):
        raise which.wrong(f"there is no list {number}, `indices` has {len(lists)}")
    return lists[number]


def _spread(value: Any, depth: int = 0) -> str:
    """JSON with a line per field of an object that holds more than plain values, and per item of a list of such."""
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    if not any(isinstance(part, Mapping | list | tuple) for part in parts):
        return _line(value)
    if isinstance(value, Mapping):
        lines = [f"{_line(str(name))}: {_spread(part, depth + 1)}" for name, part in value.items()]
    else:
        lines = [_line(item) for item in value]
    start, end = ("{", "}") if isinstance(value, Mapping) else ("[", "]")
    space = "  " * depth
    return start + ",".join(f"\n{space}  {line}" for line in lines) + f"\n{space}{end}"


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
