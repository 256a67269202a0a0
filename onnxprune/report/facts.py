"""All that a report tells, gathered from a run's or a search's folder as plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from onnxprune.errors import SettingError
from onnxprune.loop.candidate import amounts_of, figures_of
from onnxprune.loop.folder import RESULT

SCHEMA = 1
SEARCH = "search.json"


@dataclass(frozen=True)
class Width:
    """A group's units before and after all steps."""

    name: str
    kind: str
    before: int
    after: int


@dataclass
class Facts:
    """A run: headline figures, steps, widths, curves, what stays and why, and where all of it comes from.

    `figures` has before and after by name, `zeros` those of the result's weights where some are sparse (zeros.py),
    `search` the trials that the run was chosen from.
    """

    title: str
    verdict: dict[str, Any] | None = None
    latency: dict[str, Any] | None = None
    figures: dict[str, tuple[float, float]] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    rolled_back: list[str] = field(default_factory=list)
    failed: str | None = None
    widths: list[Width] = field(default_factory=list)
    sensitivity: dict[str, Any] | None = None
    training: list[dict[str, Any]] = field(default_factory=list)
    refusals: list[dict[str, Any]] = field(default_factory=list)
    zeros: list[dict[str, Any]] = field(default_factory=list)
    search: dict[str, Any] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As plain data, with the schema's number."""
        return {"schema": SCHEMA, **asdict(self)}


def gather(folder: Path) -> Facts:
    """The facts of a run's folder, or of a search's and its best candidate's run.

    Raises SettingError for a folder that is neither, or whose run has not ended.
    """
    search = _read(folder / SEARCH)
    place = folder
    if search is not None:
        if search["best"] is None:
            raise SettingError(f"{folder}: no candidate of this search passed", remedy="report one of its candidates")
        place = Path(search["best"]["folder"])
    result = _read(place / RESULT)
    if result is None:
        raise SettingError(
            f"{folder} is no folder of a run that ended: it has no {RESULT}", remedy="`onnxprune run RECIPE` makes one"
        )
    taken = [step for step in result["steps"] if step["name"] not in result["rolled_back"]]
    facts = Facts(
        Path(result["dense"]).name, steps=[_step(step) for step in result["steps"]],
        rolled_back=result["rolled_back"], failed=result["failed"], search=search,
    )  # fmt: skip
    facts.shares = figures_of(taken)[2]
    first: dict[str, Width] = {}
    for step in taken:
        found = step["found"]
        if step["kind"] == "validate":
            facts.verdict = {key: value for key, value in found.items() if key != "latency"}
            facts.latency = found.get("latency", facts.latency)
        if step["kind"] == "recover":
            facts.training.append({"name": step["name"], "history": found.get("history", [])})
        if step["kind"] == "sensitivity":
            facts.sensitivity = found
        for name, (before, after) in amounts_of(step).items():
            facts.figures[name] = facts.figures.get(name, (before, after))[0], after
        for row in found.get("groups", []) if "after" in found else []:
            known = first.get(row["name"])
            size = known.before if known else row["size"]
            first[row["name"]] = Width(row["name"], row["kind"], size, row["kept"])
    facts.widths = list(first.values())
    facts.provenance = {
        "dense": result["dense"], "dense_digest": result["dense_digest"], "recipe_sha256": result["recipe_sha256"],
        "recipe": result["recipe"], "versions": result["versions"], "machine": result["machine"],
        "model_from": result["model_from"], "folder": str(place),
    }  # fmt: skip
    return facts


def _step(step: Mapping[str, Any]) -> dict[str, Any]:
    return {key: step[key] for key in ("name", "kind", "command", "code", "seconds", "inputs", "outputs")}


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise SettingError(f"{path} cannot be read: {error}", remedy="run the recipe again") from error
    return found if isinstance(found, dict) else None
