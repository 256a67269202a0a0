"""What a recipe says once it is read and checked: a model, and steps to take with it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA = 1

Role = Literal["makes", "judges", "looks", "checks", "builds", "repeats"]


@dataclass(frozen=True)
class Step:
    """One step: `kind` names the command, `arguments` are its options.

    What it does with the model: "makes" another one of it, "judges" it against the dense one, "looks" at it and writes
    what it found, "checks" it, "builds" an engine of it, or "repeats" the inner `steps` up to `times`, each time on
    what the last time made. `where` is file and line.
    """

    kind: str
    role: Role
    arguments: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    times: int = 1
    where: str = ""
    goes_on: bool = False
    """Whether the command keeps its state with `--checkpoints DIR`, and goes on from there with `--resume`."""


@dataclass(frozen=True)
class Recipe:
    """A model (path as given, relative to `folder`), the steps, and where the result goes beside the run's folder."""

    model: str
    steps: tuple[Step, ...]
    output: str | None = None
    folder: str = "."
    content: dict[str, Any] = field(default_factory=dict, compare=False)
    """What was read, with all overrides."""

    @property
    def sha256(self) -> str:
        """A hash (hex) of the content; spelling and comments do not count."""
        return hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()
