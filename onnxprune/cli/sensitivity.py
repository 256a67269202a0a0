"""`onnxprune sensitivity`: which groups can spare units, by the metric."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnxprune.cli.calibration import Judging
from onnxprune.cli.options import Analysis, Common, ModelPath, Reach
from onnxprune.cli.scoring import Labelled, Scoring
from onnxprune.errors import SettingError

if TYPE_CHECKING:
    from onnxprune.cli.session import Session
    from onnxprune.coupling.coupling import Coupling
    from onnxprune.graph.model import Model
    from onnxprune.loop.sensitivity import Sensitivity
    from onnxprune.runtime.statistics import Statistics
    from onnxprune.types import Plan

_CURVES = "Curves"
_ROWS = 30

Ratios = Annotated[
    str, typer.Option("--ratios", rich_help_panel=_CURVES, metavar="R,…", help="Shares of a group to remove.")
]
Criterion = Annotated[
    str, typer.Option("--criterion", rich_help_panel=_CURVES, metavar="NAME", help="Which units go first.")
]
Repair = Annotated[
    bool,
    typer.Option(
        "--repair", rich_help_panel=_CURVES, help="Let the layers behind a group make up for its units, in closed form."
    ),
]
Calibration = Annotated[
    str | None,
    typer.Option(
        "--calibration",
        rich_help_panel="Data",
        metavar="DATA",
        help="Samples for --repair, and criteria that look at activations; no labels needed.  [default: --data]",
    ),
]
CurvesOutput = Annotated[
    Path | None, typer.Option("-o", "--output", rich_help_panel="Output", metavar="FILE", help="The curves, as JSON.")
]
CacheFolder = Annotated[
    Path | None,
    typer.Option(
        "--cache-dir", rich_help_panel="Data", metavar="DIR", help="Where figures are kept.  [default: the platform's]"
    ),
]
NoCache = Annotated[bool, typer.Option("--no-cache", rich_help_panel="Data", help="Keep no figures, and use none.")]


def sensitivity(
    model: ModelPath,
    reach: Reach,
    judging: Judging,
    labelled: Labelled,
    scoring: Scoring,
    analysis: Analysis,
    common: Common,
    ratios: Ratios = "0.25,0.5,0.75",
    criterion: Criterion = "l2",
    repair: Repair = False,
    calibration: Calibration = None,
    output: CurvesOutput = None,
    cache_dir: CacheFolder = None,
    no_cache: NoCache = False,
) -> None:
    """Measure how the metric suffers when one group alone loses units.

    Every group is pruned by each of the ratios with the rest of the model whole, and judged. Figures are kept as they
    come: a run that is cut short goes on where it was. Without labels take --metric agreement, cosine, kl or snr.
    """
    import json

    from onnxprune.cli.progress import samples_bar
    from onnxprune.cli.scoring import open_judge
    from onnxprune.cli.session import Session
    from onnxprune.cli.writing import check_targets
    from onnxprune.graph.atomic import AtomicFiles
    from onnxprune.graph.io import load
    from onnxprune.importance import score
    from onnxprune.importance.registry import find
    from onnxprune.importance.traits import traits_of
    from onnxprune.loop.sensitivity import sensitivity as measure
    from onnxprune.plan.scope import groups_in_scope
    from onnxprune.runtime.cache import default_folder
    from onnxprune.runtime.calibrate import calibrate
    from onnxprune.runtime.data import open_data
    from onnxprune.runtime.statistics import GRAM

    here = Session(common)
    shares = read_shares(ratios)
    loaded = load(model)
    if output is not None:
        check_targets(loaded, [output])
    judge = open_judge(here, model, labelled, scoring)
    coupling = here.analyse(loaded, analysis)
    reached = groups_in_scope(coupling, **reach.groups)
    cache = None if no_cache else cache_dir or default_folder()
    needs = {*traits_of(find(criterion)).needs, *((GRAM,) if repair else ())}
    samples = judge.data
    if calibration is not None:
        samples = open_data(
            calibration, coupling.view, preprocess=labelled.preprocess, samples=labelled.samples, seed=here.seed
        )
    data: dict[str, Statistics] = {}
    if needs:
        with here.step("Calibrating"):
            found_of = calibrate(coupling, samples, sorted(needs), seed=here.seed, options=here.options, cache=cache)
        data = {"statistics": found_of}
    scores = score(
        coupling, criterion, seed=here.seed, normalise=judging.normalise, aggregate=judging.aggregate, data=data
    )
    with samples_bar(here, "Measuring", None) as progress:
        found = measure(
            coupling, judge, scores, ratios=shares, groups={group.index for group in reached}, cache=cache,
            repair=_compensating(coupling, data["statistics"]) if repair else None,
            repair_key=f"compensate {samples.sha256}" if repair else "", progress=progress,
        )  # fmt: skip
    answer = {
        **found.as_dict(), "model_digest": loaded.digest, "data": judge.data.origin, "criterion": criterion,
        "repaired": repair,
    }  # fmt: skip
    if output is not None:
        with AtomicFiles() as files:
            files.create(output).write(json.dumps(answer, indent=1).encode() + b"\n")
    _show(here, found)
    if output is not None:
        here.say_plain(f"wrote {output}")
    here.answer(answer)


def _compensating(coupling: Coupling, statistics: Statistics) -> Callable[[Model, Plan], Model]:
    """What makes up for the units that a plan takes from the coupling's model."""
    from onnxprune.edit.selection import removed_classes_of
    from onnxprune.repair.compensate import Compensator

    compensator = Compensator(coupling, statistics)

    def repaired(model: Model, plan: Plan) -> Model:
        compensator(model, removed_classes_of(coupling, plan))
        return model

    return repaired


def read_shares(given: str) -> list[float]:
    """`0.25,0.5` -> numbers. Raises SettingError."""
    try:
        return [float(part) for part in given.split(",")]
    except ValueError as error:
        raise SettingError(f"--ratios {given}: not numbers", remedy="for example --ratios 0.25,0.5,0.75") from error


def _show(here: Session, found: Sensitivity) -> None:
    from rich.table import Table

    table = Table("group", "kind", "units", title_justify="left")
    table.title = f"{found.metric} by units kept of one group; {found.dense:.6g} whole, on {found.samples} samples"
    table.add_column("units kept: figure", justify="left", overflow="fold")
    ranked = found.ranked()
    for curve in ranked if here.verbose else ranked[:_ROWS]:
        points = "  ".join(f"{kept}: {value:.4g}" for kept, value in zip(curve.kept, curve.values, strict=True))
        table.add_row(curve.name, curve.kind, str(curve.size), points)
    if len(ranked) > _ROWS and not here.verbose:
        table.caption = f"{len(ranked) - _ROWS} groups that suffer less not shown; -v shows all"
    here.say(table)
