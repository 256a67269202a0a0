"""Run a recipe's steps in a folder, and go on where a run that was killed was."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from onnxprune import __version__
from onnxprune.errors import BudgetError, FloorError
from onnxprune.graph.io import load, save
from onnxprune.loop.folder import RESULT, STEP, RunFolder, file_sha256
from onnxprune.loop.provenance import environment
from onnxprune.loop.recipe import SCHEMA, Recipe, Role, Step

MODEL = "model.onnx"
_LOG = "log.txt"
_OUTPUTS: dict[Role, str] = {"makes": MODEL, "looks": "found.json", "builds": "model.engine"}
_KEPT_BY_ROLLBACK = (FloorError.exit_code, BudgetError.exit_code)
_LARGE = 1 << 30  # bytes; of larger data files size and time stand for the content


@dataclass(frozen=True)
class Answer:
    """What a command gave: its exit code, and its JSON object."""

    code: int
    found: dict[str, Any]


class Execute(Protocol):
    """Runs one command line, whose log goes to a file. Raises OnnxPruneError unless it ends with 0, 4 or 9."""

    def __call__(self, arguments: Sequence[str], log: Path) -> Answer: ...


@dataclass(frozen=True)
class Done:
    """A step that was taken: its folder's name, what it was and gave, and whether it had been taken before."""

    name: str
    step: dict[str, Any]
    resumed: bool

    @property
    def failed(self) -> bool:
        """Whether it broke a limit or could not meet its budget."""
        return bool(self.step["code"])


@dataclass
class Outcome:
    """The steps in order; `model` is the file that the last one made (the dense one where none did)."""

    model: Path
    steps: list[Done] = field(default_factory=list)
    failed: Done | None = None
    rolled_back: list[str] = field(default_factory=list)
    """Steps that a schedule took back, since their round broke a limit."""


Say = Callable[[Done], None]


class Runner:
    """Takes the steps of one recipe in one folder (locked by the caller)."""

    def __init__(
        self,
        folder: RunFolder,
        recipe: Recipe,
        execute: Execute,
        say: Say = lambda done: None,
        reuse: RunFolder | None = None,
    ) -> None:
        self._folder, self._recipe, self._execute, self._say, self._reuse = folder, recipe, execute, say, reuse
        self._dense = (Path(recipe.folder) / recipe.model).resolve()
        self._environment = environment()

    def run(self, *, anew: bool = False) -> Outcome:
        """Take all steps that were not taken before, up to the first that breaks a limit.

        Raises SettingError for a folder of another run, and what a step raises.
        """
        dense_digest = load(self._dense).digest
        self._folder.claim(
            {
                "schema": SCHEMA, "onnxprune": __version__, "model": str(self._dense), "model_digest": dense_digest,
                "recipe_sha256": self._recipe.sha256, "recipe": self._recipe.content,
            },
            anew=anew,
        )  # fmt: skip
        outcome = Outcome(self._dense)
        self._take(self._recipe.steps, "", outcome)
        self._finish(outcome, dense_digest)
        return outcome

    def _take(self, steps: Sequence[Step], prefix: str, outcome: Outcome) -> None:
        for number, step in enumerate(steps, 1):
            name = f"{prefix}{number:02d}-{step.kind}"
            if step.role == "repeats":
                self._repeat(step, name, outcome)
                continue
            done = self._one(step, name, outcome.model)
            outcome.steps.append(done)
            if done.failed:
                outcome.failed = done
                return
            if step.role == "makes":
                outcome.model = self._folder.path / name / MODEL

    def _repeat(self, step: Step, name: str, outcome: Outcome) -> None:
        """Rounds of the inner steps, until one breaks a limit: that one is taken back."""
        for number in range(1, step.times + 1):
            before, count = outcome.model, len(outcome.steps)
            self._take(step.steps, f"{name}.{number}.", outcome)
            if outcome.failed is not None:
                outcome.rolled_back += [done.name for done in outcome.steps[count:]]
                outcome.model, outcome.failed = before, None
                return

    def _one(self, step: Step, name: str, model: Path) -> Done:
        arguments = list(step.arguments)
        step = replace(step, arguments=tuple(self._filled(argument) for argument in arguments))
        inputs = {"model": file_sha256(model), **_files(dict(zip(arguments, step.arguments, strict=True)))}
        key = hashlib.sha256(json.dumps([step.kind, arguments, inputs, __version__]).encode()).hexdigest()
        known = self._known(name, key)
        if known is not None:
            done = Done(name, known, resumed=True)
            self._say(done)
            return done
        state = self._folder.path / f".{name}.{key[:12]}.state"
        with self._folder.attempt(name) as working:
            command = self._command(step, model, working)
            started = time.perf_counter()
            answer = self._execute([*command, *_going_on(step, state), "--json"], working / _LOG)
            final = self._folder.path / name
            shown, found = _moved([command, answer.found], working, final)
            outputs = {p.name: file_sha256(p) for p in sorted(working.iterdir()) if p.name != _LOG}
            record = {
                "schema": SCHEMA, "key": key, "kind": step.kind, "command": ["onnxprune", *shown],
                "where": step.where, "code": answer.code, "seconds": round(time.perf_counter() - started, 3),
                "inputs": inputs, "outputs": outputs, "bytes": _sizes(model, working / MODEL), "found": found,
                **self._environment,
            }  # fmt: skip
            (working / STEP).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(state, ignore_errors=True)
        done = Done(name, record, resumed=False)
        self._say(done)
        return done

    def _filled(self, argument: str) -> str:
        """An argument with paths in the places of $DENSE, the recipe's own model, and $RUN, the run's folder."""
        return argument.replace("$DENSE", str(self._dense)).replace("$RUN", str(self._folder.path))

    def _known(self, name: str, key: str) -> dict[str, Any] | None:
        """What is known of this very step: it was taken here, or in the other run, from which it is copied."""
        known = _finished(self._folder, name, key)
        if known is not None or self._reuse is None:
            return known
        known = _finished(self._reuse, name, key)
        if known is None:
            return None
        with self._folder.attempt(name) as working:
            shutil.copytree(self._reuse.path / name, working, dirs_exist_ok=True)
            moved: dict[str, Any] = _moved(known, self._reuse.path, self._folder.path)
            (working / STEP).write_text(json.dumps(moved, indent=1) + "\n", encoding="utf-8")
        return moved

    def _command(self, step: Step, model: Path, working: Path) -> list[str]:
        given = list(step.arguments)
        if step.role == "judges":
            return [step.kind, str(self._dense), str(model), *given]
        output = _OUTPUTS.get(step.role)
        return [step.kind, str(model), *given, *([] if output is None else ["-o", str(working / output)])]

    def _finish(self, outcome: Outcome, dense_digest: str) -> None:
        """The last model under its own name, with a file that says where it comes from."""
        result = {
            "schema": SCHEMA, **self._environment, "dense": str(self._dense), "dense_digest": dense_digest,
            "recipe_sha256": self._recipe.sha256, "recipe": self._recipe.content,
            "steps": [{"name": done.name, **done.step} for done in outcome.steps],
            "rolled_back": outcome.rolled_back, "failed": None if outcome.failed is None else outcome.failed.name,
            "model_from": outcome.model.parent.name if outcome.model != self._dense else None,
        }  # fmt: skip
        targets = [self._folder.path / MODEL] if outcome.model != self._dense else []
        if targets and self._recipe.output is not None and outcome.failed is None:
            targets.append((Path(self._recipe.folder) / self._recipe.output).resolve())
        for target in targets:
            model = load(outcome.model)
            sidecar = {**result, "model_digest": model.digest}
            content = json.dumps(sidecar, indent=1).encode() + b"\n"
            save(model, target, beside={f"{target.stem}.provenance.json": content})
        self._folder.write(RESULT, result)


def _finished(folder: RunFolder, name: str, key: str) -> dict[str, Any] | None:
    """The record of a step of that key, where all that it made is still there as it was."""
    known = folder.read(f"{name}/{STEP}")
    if known is None or known["key"] != key:
        return None
    made = {folder.path / name / file: sha256 for file, sha256 in known["outputs"].items()}
    return known if all(file.is_file() and file_sha256(file) == sha256 for file, sha256 in made.items()) else None


def _going_on(step: Step, state: Path) -> list[str]:
    """Options of a step that keeps its state outside its attempt's folder, which a killed run takes with it."""
    if not step.goes_on:
        return []
    return [f"--checkpoints={state}", *(["--resume"] if any(state.glob("state.*")) else [])]


def _sizes(before: Path, after: Path) -> dict[str, int] | None:
    """Bytes of a model's files before and after a step, None for a step that made none."""
    if not after.exists():
        return None
    return {
        when: sum(file.stat().st_size for file in set(load(path).source_files))
        for when, path in (("before", before), ("after", after))
    }


def _moved(data: Any, before: Path, after: Path) -> Any:
    """Plain data in which paths below one folder are below another."""
    old, new = (json.dumps(str(path))[1:-1] for path in (before, after))
    return json.loads(json.dumps(data).replace(old, new))


def _files(arguments: Mapping[str, str]) -> dict[str, str]:
    """What stands for the content of the files that options name, by the options as the recipe has them."""
    found = {}
    for given, argument in arguments.items():
        _, sign, value = argument.partition("=")
        path = Path(value.partition(".py:")[0] + ".py" if ".py:" in value else value)
        if not sign or not value or not path.is_file():
            continue
        stat = path.stat()
        found[given] = f"{stat.st_size} {stat.st_mtime_ns}" if stat.st_size > _LARGE else file_sha256(path)
    return found
