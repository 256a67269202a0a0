"""Metrics on the command line: which one, of which output, on which data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnxprune.cli.options import Preprocess
from onnxprune.cli.session import Session
from onnxprune.errors import SettingError

if TYPE_CHECKING:
    from onnxprune.runtime.metrics import Judge, Metric, Reading

_DATA, _METRIC = "Data", "Metric"


@dataclass(frozen=True)
class Labelled:
    """What models are judged on."""

    data: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_DATA,
            metavar="DATA",
            help="Samples with `labels`: a .npz, a folder or zip of .npz or images, or script.py:function.",
        ),
    ] = None
    preprocess: Preprocess = None
    samples: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=_DATA, min=1, metavar="N", help="Samples to use, drawn with --seed.  [default: all]"
        ),
    ] = None
    batch: Annotated[
        int | None, typer.Option(rich_help_panel=_DATA, min=1, metavar="N", help="Samples at a time.  [default: 32]")
    ] = None


@dataclass(frozen=True)
class Scoring:
    """What is measured."""

    metric: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_METRIC,
            metavar="NAME",
            help="top1, f1, mse, miou, map, … or script.py:function.  [default: top1 of classes]",
        ),
    ] = None
    metric_output: Annotated[
        str | None,
        typer.Option(rich_help_panel=_METRIC, metavar="NAME", help="The output to judge.  [default: the first]"),
    ] = None
    postprocess: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_METRIC,
            metavar="SCRIPT",
            help="script.py:function that makes of the outputs what the metric takes.",
        ),
    ] = None
    lower_is_better: Annotated[
        bool, typer.Option("--lower-is-better", rich_help_panel=_METRIC, help="Of a script's metric.")
    ] = False


def open_judge(here: Session, dense: Path, given: Labelled, scoring: Scoring) -> Judge:
    """The judge of models against `dense`. Raises SettingError for a metric or data that cannot be used."""
    from onnxprune.graph.io import load
    from onnxprune.graph.view import GraphView
    from onnxprune.runtime.data import open_data
    from onnxprune.runtime.metrics import Judge

    metric, reading = read_scoring(scoring)
    if given.data is None:
        raise SettingError("no data is given", remedy="give --data: samples with labels, or without for agreement")
    data = open_data(
        given.data, GraphView(load(dense)), preprocess=given.preprocess, samples=given.samples, seed=here.seed
    )
    return Judge(dense, data, metric, reading, options=here.options, batch=given.batch)


def read_scoring(scoring: Scoring, default: str = "top1") -> tuple[Metric, Reading]:
    """The metric, `default` unless one is asked for, and how it reads the outputs. Raises what finding them raises."""
    from onnxprune.runtime.metrics import Reading, find_metric
    from onnxprune.runtime.metrics.meter import read_postprocess

    metric = find_metric(scoring.metric or default, lower_is_better=scoring.lower_is_better)
    return metric, Reading(scoring.metric_output, read_postprocess(scoring.postprocess))
