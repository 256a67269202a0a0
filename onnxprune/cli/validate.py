"""`onnxprune validate`: what pruning costs on the user's data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnxprune.cli.options import Common
from onnxprune.cli.scoring import Labelled, Scoring
from onnxprune.cli.timing import Timed
from onnxprune.errors import SettingError

if TYPE_CHECKING:
    from onnxprune.cli.session import Session
    from onnxprune.runtime.metrics import Limits, Verdict

_LIMIT = "Limits"

DensePath = Annotated[Path, typer.Argument(metavar="DENSE", help="The model as it was.")]
PrunedPath = Annotated[Path, typer.Argument(metavar="PRUNED", help="The model to judge.")]


@dataclass(frozen=True)
class Limiting:
    """What the pruned model must keep to."""

    max_drop: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_LIMIT,
            metavar="D",
            help="How much worse it may be, in the metric's units (0.01), or as a share of the dense figure (1%).",
        ),
    ] = None
    floor: Annotated[
        float | None,
        typer.Option(rich_help_panel=_LIMIT, metavar="V", help="The figure to reach; where lower is better, to keep."),
    ] = None
    strict: Annotated[
        bool,
        typer.Option("--strict", rich_help_panel=_LIMIT, help="The whole confidence interval must keep to --max-drop."),
    ] = False
    confidence: Annotated[
        float, typer.Option(rich_help_panel=_LIMIT, metavar="P", help="Of the interval, between 0.5 and 1.")
    ] = 0.95
    resamples: Annotated[
        int, typer.Option(rich_help_panel=_LIMIT, min=100, metavar="N", help="Draws of the bootstrap.")
    ] = 1000


def validate(
    dense: DensePath,
    pruned: PrunedPath,
    labelled: Labelled,
    scoring: Scoring,
    limiting: Limiting,
    timed: Timed,
    common: Common,
) -> None:
    """Compare a pruned model with the dense one on your data.

    Both run in ONNX Runtime on the same samples. The difference comes with a confidence interval, so that what a few
    samples cannot show is not called a change. Exits with 9 where a limit is broken.
    """
    from onnxprune.cli.scoring import open_judge
    from onnxprune.cli.session import Session
    from onnxprune.cli.timing import latency_note, latency_table, time_both
    from onnxprune.errors import FloorError
    from onnxprune.runtime.metrics import validate as compare

    here = Session(common)
    limits = read_limits(limiting)
    judge = open_judge(here, dense, labelled, scoring)
    with here.step(f"Judging {dense} and {pruned}"):
        verdict = compare(
            judge, pruned, limits, confidence=limiting.confidence, resamples=limiting.resamples, seed=here.seed
        )
    found = {**verdict.as_dict(), "data": judge.data.origin}
    if timed.latency or timed.max_latency is not None:
        speed = time_both(here, dense, pruned, judge.data, timed)
        found["latency"] = speed
        left = speed["ratio"]["median"]
        if timed.max_latency is not None and left > timed.max_latency:
            found["broken"] += [f"latency is {left:.3f} of the dense model's, and --max-latency {timed.max_latency:g}"]
            found["passed"] = False
        here.say(latency_table(speed), latency_note(speed))
    _show(here, verdict)
    for why in found["broken"]:
        here.say(f"failed: {why}")
    if found["passed"]:
        here.say("passed")
    here.answer(found)
    if not found["passed"]:
        raise typer.Exit(FloorError.exit_code)


def read_limits(given: Limiting) -> Limits:
    """The limits. Raises SettingError where one cannot be read."""
    from onnxprune.runtime.metrics import Limits

    if not 0.5 <= given.confidence < 1:
        raise SettingError(f"--confidence is {given.confidence:g}", remedy="give 0.5 or more and less than 1: 0.95")
    if given.max_drop is None:
        return Limits(floor=given.floor, strict=given.strict)
    text = given.max_drop.strip()
    try:
        drop = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError as error:
        raise SettingError(
            f"--max-drop {given.max_drop}: it is no number", remedy="give 0.01, or 1% of the dense model's figure"
        ) from error
    return Limits(drop, text.endswith("%"), given.floor, given.strict)


def _show(here: Session, verdict: Verdict) -> None:
    from rich.table import Table

    table = Table("", "dense", "pruned", "worse by", title_justify="left")
    found = verdict.difference
    table.add_row(
        verdict.metric,
        figure(verdict.dense),
        figure(verdict.pruned),
        "" if found is None else f"{found.loss:+.4g}  ({found.low:+.4g} to {found.high:+.4g})",
    )
    here.say(table)
    if found is not None:
        here.say(f"on {verdict.samples} samples; {found.confidence:.0%} confidence interval by {found.method}")
        if found.p_value is not None:
            here.say(
                f"the pruned model is wrong where the dense one is right on {found.worse} samples, and right where it "
                f"is wrong on {found.better} (McNemar's exact test: p = {found.p_value:.2g})"
            )
        if not found.is_change:
            here.say("these samples show no change: the interval includes 0")
    if verdict.undecided:
        here.say("--max-drop lies within the interval: more samples may decide otherwise")


def figure(value: float) -> str:
    """A metric's figure for a table."""
    return f"{value:.6g}"
