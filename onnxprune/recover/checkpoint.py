"""Checkpoints: one safetensors file that appears whole or not at all, for a run to go on from where it was killed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from onnxprune.errors import SettingError
from onnxprune.graph.atomic import AtomicFiles
from onnxprune.recover.ema import Average

STATE, BEST = "state.safetensors", "best.safetensors"
_KEY = "onnxprune"


@dataclass
class Progress:
    """How far a run is; everything but tensors that it takes to go on."""

    epoch: int = 0
    step: int = 0
    best: float | None = None
    best_epoch: int = 0
    waited: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


def write(path: Path, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
    """Write tensors and what is told of them. Raises OutputError where that cannot be, and then changes nothing."""
    content = save(
        {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, {_KEY: json.dumps(told)}
    )
    with AtomicFiles() as files:
        files.create(path).write(content)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write` wrote. Raises SettingError for a file that is not there, damaged, or none of ours."""
    if not path.is_file():
        raise SettingError(f"--resume: there is no {path}", remedy="start without --resume")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
    except (SafetensorError, OSError) as error:
        raise SettingError(f"{path} is no readable checkpoint: {error}", remedy="remove it and start anew") from error
    if _KEY not in metadata:
        raise SettingError(f"{path} is no checkpoint of onnxprune", remedy="name another folder")
    return tensors, json.loads(metadata[_KEY])


def check_same(path: Path, told: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise SettingError where a checkpoint belongs to another model, teacher, data or settings."""
    for name, value in expected.items():
        if told.get(name) != value:
            raise SettingError(
                f"{path} is of another {name}", remedy="resume with what it was started with, or start without --resume"
            )


def packed(
    weights: Mapping[str, Tensor], optimiser: torch.optim.Optimizer, average: Average | None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors of a run under one roof, and the numbers of the optimiser's state that are no tensors."""
    tensors = {f"model/{key}": value for key, value in weights.items()}
    numbers: dict[str, Any] = {}
    for index, entries in optimiser.state_dict()["state"].items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser/{index}/{name}"] = value
            else:
                numbers[f"{index}/{name}"] = value
    if average is not None:
        tensors |= {f"average/{key}": value for key, value in average.values.items()}
        numbers["average"] = average.steps
    return tensors, numbers


def unpack_optimiser(
    optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]
) -> None:
    """Put an optimiser's state back."""
    state: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        kind, _, rest = name.partition("/")
        if kind == "optimiser":
            index, _, entry = rest.partition("/")
            state.setdefault(int(index), {})[entry] = value
    for name, value in numbers.items():
        index, sign, entry = name.partition("/")
        if sign:
            state.setdefault(int(index), {})[entry] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def section(tensors: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """The tensors of one section, by their names in it."""
    return {name.partition("/")[2]: value for name, value in tensors.items() if name.startswith(f"{kind}/")}
