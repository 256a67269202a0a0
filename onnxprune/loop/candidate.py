"""One candidate of a search: a recipe with some settings turned, run in a process and a folder of its own."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnxprune.errors import BudgetError, FloorError

_WAIT = 3600  # seconds for a run of the same candidate, which a lost worker left behind, to end

OBJECTIVES = ("latency", "macs", "parameters", "bytes")


@dataclass(frozen=True)
class Trial:
    """What came of a candidate: `values` by setting, the exit code of its run, and shares of the dense model's figures.

    `loss` is by how much the metric is worse, None where no metric was taken; `error` says why there is nothing.
    `screened`: it was tried under the search's screen alone, and is out: its figures are not those of a whole run.
    """

    values: dict[str, str]
    folder: str
    code: int
    loss: float | None = None
    metric: float | None = None
    shares: dict[str, float] | None = None
    error: str | None = None
    screened: bool = False

    @property
    def passed(self) -> bool:
        """Whether it keeps to all limits of its recipe."""
        return self.code == 0 and not self.screened

    def share(self, objective: str) -> float | None:
        """What is to be small, None where it was not measured."""
        return (self.shares or {}).get(objective)


@dataclass(frozen=True)
class Spec:
    """What all candidates of a search have in common. Plain data, which can be sent to another machine."""

    recipe: str
    folder: str
    sets: tuple[str, ...] = ()
    screen: tuple[str, ...] = ()
    """Overrides under which candidates are tried first."""

    @property
    def screening(self) -> Spec:
        """The same search, all of whose candidates are run under the screen."""
        return replace(self, sets=(*self.sets, *self.screen), screen=())

    def folder_of(self, values: Mapping[str, str]) -> Path:
        """A candidate's folder, the same whenever it is tried."""
        name = hashlib.sha256(json.dumps([self.sets, dict(values)], sort_keys=True).encode()).hexdigest()[:16]
        return Path(self.folder) / "candidates" / name


def evaluate(spec: Spec, values: Mapping[str, str]) -> Trial:
    """Run the candidate, or go on with its run. Whatever goes wrong is told in the trial: others are not lost by it."""
    folder = spec.folder_of(values)
    folder.mkdir(parents=True, exist_ok=True)
    reuse = [f"--reuse={spec.screening.folder_of(values)}"] if spec.screen else []
    sets = [f"--set={given}" for given in (*spec.sets, *(f"{key}={value}" for key, value in values.items()))]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "onnxprune", "run", spec.recipe, "--folder", str(folder), *sets, *reuse,
         "--json", f"--wait={_WAIT}"],
        capture_output=True, encoding="utf-8", errors="replace", check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    lines = done.stdout.strip().splitlines()
    try:
        found = json.loads(lines[-1]) if lines else {}
    except ValueError:
        found = {}
    if done.returncode not in (0, FloorError.exit_code, BudgetError.exit_code) or "steps" not in found:
        told = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return Trial(dict(values), str(folder), done.returncode or 1, error=told)
    taken = [step for step in found["steps"] if step["name"] not in found["rolled_back"]]
    return Trial(dict(values), str(folder), done.returncode, *figures_of(taken))


def figures_of(steps: list[dict[str, Any]]) -> tuple[float | None, float | None, dict[str, float]]:
    """Loss and metric by the last validation, and shares left after all steps."""
    loss = metric = None
    shares: dict[str, float] = {}
    dense: dict[str, float] = {}
    for step in steps:
        found = step["found"]
        if step["kind"] == "validate":
            metric = found.get("pruned")
            loss = found.get("difference", {}).get("loss")
            if "latency" in found:
                shares["latency"] = found["latency"]["ratio"]["median"]
        for name, (before, after) in amounts_of(step).items():
            shares[name] = after / dense.setdefault(name, before)
    return loss, metric, shares


def amounts_of(step: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Before and after a step, as far as it tells: macs, parameters, and the bytes of the files."""
    amounts: dict[str, tuple[float, float]] = {}
    before, after = step["found"].get("before"), step["found"].get("after")
    if isinstance(before, dict) and isinstance(after, dict):
        amounts = {name: (before[name], after[name]) for name in ("macs", "parameters") if name in before}
    if step.get("bytes"):
        amounts["bytes"] = step["bytes"]["before"], step["bytes"]["after"]
    return amounts
