"""Latency tables: how long the segments of a model take at several widths, measured, and written down as JSON.

    {"schema": 1, "model_digest": "…", "machine": {…}, "groups": {"conv1:0": 64, …}, "cuts": ["relu3", …],
     "samples": [{"kept": [64, …], "whole": 12.3, "segments": [1.2, …]}, …]}

`kept` counts units per group, in the order of `groups` (which has their sizes); times are milliseconds. A sample
without `segments` is a whole model that was measured to correct the table.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from onnxprune.coupling.coupling import Coupling
from onnxprune.errors import PlanError, SettingError
from onnxprune.graph.atomic import AtomicFiles
from onnxprune.plan.fields import Field

SCHEMA = 1


@dataclass(frozen=True)
class Sample:
    """Milliseconds of the whole model and of each segment (None where not timed) with so many units of each group.

    `dropped` names the residual blocks that were gone.
    """

    kept: tuple[int, ...]
    whole: float
    segments: tuple[float, ...] | None = None
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True)
class LatencyTable:
    """Measured times of one model on one machine and runtime; `samples[0]` is the dense model."""

    model_digest: str
    machine: dict[str, str]
    groups: dict[str, int]
    cuts: tuple[str, ...]
    samples: tuple[Sample, ...]

    @property
    def dense(self) -> float:
        """Milliseconds of the dense model."""
        return self.samples[0].whole

    def corrected(self, kept: tuple[int, ...], whole: float, dropped: tuple[str, ...] = ()) -> LatencyTable:
        """The table with one more whole model measured."""
        return replace(self, samples=(*self.samples, Sample(kept, whole, dropped=dropped)))


def check_table(table: LatencyTable, coupling: Coupling, origin: str) -> None:
    """Raise SettingError, which names `origin`, for a table of another model."""
    groups = {group.name: group.size for group in coupling.groups}
    blocks = {block.name for block in coupling.blocks}
    is_known = all(name in coupling.view.producer for name in table.cuts)
    is_known = is_known and all(blocks.issuperset(sample.dropped) for sample in table.samples)
    if table.groups != groups or not is_known:
        raise SettingError(
            f"--latency-table {origin}: it was measured for another model, or under other --bind or --input-shapes",
            remedy="measure one for this model: give the name of a file that does not exist yet",
        )


def table_to_json(table: LatencyTable) -> str:
    """One line a sample."""
    head = {
        "schema": SCHEMA,
        "model_digest": table.model_digest,
        "machine": table.machine,
        "groups": table.groups,
        "cuts": list(table.cuts),
    }
    samples = []
    for sample in table.samples:
        times = {} if sample.segments is None else {"segments": list(sample.segments)}
        gone = {"dropped": list(sample.dropped)} if sample.dropped else {}
        samples.append(json.dumps({"kept": list(sample.kept), "whole": sample.whole, **times, **gone}))
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in head.items()]
    return "{" + ",\n".join([*lines, '"samples": [' + ",\n".join(samples) + "]"]) + "}\n"


def save_table(table: LatencyTable, path: str | os.PathLike[str]) -> None:
    """Write a table, whole or not at all. Raises OutputError where that cannot be."""
    with AtomicFiles() as files:
        files.create(Path(path)).write(table_to_json(table).encode())


def load_table(path: str | os.PathLike[str]) -> LatencyTable:
    """Read a table. Raises SettingError where there is none, or where it is not as it should be."""
    try:
        return _read(Field(str(path), "", json.loads(Path(path).read_text(encoding="utf-8"))))
    except (OSError, ValueError, RecursionError, PlanError) as error:
        why = error.message if isinstance(error, PlanError) else str(error)
        raise SettingError(
            f"--latency-table {path}: it cannot be read: {why}", remedy="measure it again, under another name"
        ) from error


def _read(document: Field) -> LatencyTable:
    document.keys(("schema", "model_digest", "machine", "groups", "cuts", "samples"))
    if document["schema"].count() != SCHEMA:
        raise document["schema"].wrong(f"this version reads schema {SCHEMA}")
    groups = {name: item.count() for name, item in document["groups"].items()}
    cuts = tuple(item.string() for item in document["cuts"].list())
    samples = tuple(_sample(item, groups) for item in document["samples"].list())
    if not samples or samples[0].segments is None or samples[0].kept != tuple(groups.values()):
        raise document["samples"].wrong("the first sample must be the dense model, with its segments")
    segments = len(samples[0].segments)
    for item, sample in zip(document["samples"].list(), samples, strict=True):
        if sample.segments is not None and len(sample.segments) != segments:
            raise item.wrong(f"it has {len(sample.segments)} segments, the first has {segments}")
    machine = {name: item.string() for name, item in document["machine"].items()}
    return LatencyTable(document["model_digest"].string(), machine, groups, cuts, samples)


def _sample(item: Field, groups: Mapping[str, int]) -> Sample:
    item.keys(("kept", "whole"), ("segments", "dropped"))
    kept = item["kept"].counts()
    if len(kept) != len(groups) or not all(0 < k <= size for k, size in zip(kept, groups.values(), strict=True)):
        raise item["kept"].wrong("it must have a number for each group, of at least 1 and at most its size")
    times = tuple(time.number() for time in item["segments"].list()) if "segments" in item.value else None
    whole = item["whole"].number()
    if not whole > 0:
        raise item["whole"].wrong("no model takes no time")
    gone = tuple(name.string() for name in item["dropped"].list()) if "dropped" in item.value else ()
    return Sample(kept, whole, times, gone)
