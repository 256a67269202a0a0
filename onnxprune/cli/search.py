"""`onnxprune search`: settings of a recipe that give the fastest or smallest model within its limits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnxprune.cli.options import Common
from onnxprune.cli.run import RecipePath, Sets, common_sets

if TYPE_CHECKING:
    from onnxprune.cli.session import Session
    from onnxprune.loop.candidate import Trial
    from onnxprune.loop.recipe import Step

_SEARCH = "Search"

Tune = Annotated[
    list[str] | None,
    typer.Option(
        "--tune", rich_help_panel=_SEARCH, metavar="KEY=VALUES", help="prune.max-macs=95%:20%, or a|b (repeatable)."
    ),
]
Minimise = Annotated[
    str,
    typer.Option("--minimise", rich_help_panel=_SEARCH, metavar="WHAT", help="latency, macs, parameters or bytes."),
]
Trials = Annotated[
    int | None,
    typer.Option(
        "--trials", rich_help_panel=_SEARCH, min=2, metavar="N", help="Candidates.  [default: 8, of several knobs 32]"
    ),
]
Jobs = Annotated[
    int, typer.Option("--jobs", rich_help_panel=_SEARCH, min=1, metavar="N", help="Processes on this machine.")
]
Scheduler = Annotated[
    str | None,
    typer.Option("--scheduler", rich_help_panel=_SEARCH, metavar="ADDRESS", help="A cluster's: tcp://… of Dask, ray:…"),
]
Screen = Annotated[
    list[str] | None,
    typer.Option(
        "--screen", rich_help_panel=_SEARCH, metavar="KEY=VALUE",
        help="Try candidates under this first, as validate.samples=200 (repeatable).",
    ),
]  # fmt: skip
SearchFolder = Annotated[
    Path | None,
    typer.Option("--folder", rich_help_panel=_SEARCH, metavar="DIR", help="[default: RECIPE's name.search]"),
]


def search(
    recipe: RecipePath,
    common: Common,
    tune: Tune = None,
    minimise: Minimise = "latency",
    trials: Trials = None,
    jobs: Jobs = 1,
    scheduler: Scheduler = None,
    screen: Screen = None,
    folder: SearchFolder = None,
    sets: Sets = None,
) -> None:
    """Search for settings of a recipe that give the fastest or smallest model.

    One setting of a range is bisected, several are searched by Optuna. The limits are those of the recipe's validation.
    Each candidate is a run of the recipe of its own. Exits with 9 where none keeps to the limits.
    """
    from dataclasses import asdict

    from onnxprune import __version__
    from onnxprune.cli.session import Session, require
    from onnxprune.errors import FloorError, SettingError
    from onnxprune.graph.io import load, save
    from onnxprune.loop.candidate import OBJECTIVES, Spec
    from onnxprune.loop.engine import engine_for
    from onnxprune.loop.folder import RunFolder
    from onnxprune.loop.knobs import read_knob
    from onnxprune.loop.search import best_of, bisect, front_of, optimise

    here = Session(common)
    require("pydantic", "recipes", "loop")
    from onnxprune.cli.recipe import read_recipe

    if minimise not in OBJECTIVES:
        raise SettingError(f"--minimise {minimise}: unknown", remedy=f"give one of {', '.join(OBJECTIVES)}")
    if not tune:
        raise SettingError("there is nothing to search over", remedy="give --tune prune.max-macs=95%:20%")
    knobs = [read_knob(given) for given in tune]
    if not any(step.kind == "validate" for step in _all(read_recipe(recipe, sets).steps)):
        raise SettingError(
            f"{recipe} has no validate step, so nothing says what passes", remedy="add one, with a limit"
        )
    own = [*(sets or ()), *common_sets(common), *(["validate.latency=true"] if minimise == "latency" else [])]
    first = [f"{knob.key}={knob.choices[0] if knob.choices else knob.spell(knob.mild)}" for knob in knobs]
    is_bisected = len(knobs) == 1 and not knobs[0].choices
    if screen and is_bisected:
        raise SettingError(
            "--screen is of use where several settings, or choices, are searched",
            remedy="leave it out, or --tune another",
        )
    read_recipe(recipe, [*own, *first, *(screen or ())])
    read = read_recipe(recipe, [*own, *first])
    place = (folder or recipe.with_suffix(".search")).resolve()
    at = RunFolder(place)
    with at.locked():
        manifest = {
            "schema": 1, "onnxprune": __version__, "model_digest": load(Path(read.folder, read.model)).digest,
            "recipe_sha256": read.sha256, "knobs": tune, "minimise": minimise,
            "screen": list(screen or ()),
        }  # fmt: skip
        at.claim(manifest, anew=False)
        spec = Spec(str(recipe.resolve()), str(place), tuple(own), tuple(screen or ()))
        engine = engine_for(scheduler, jobs)
        try:
            if is_bisected:
                found = bisect(spec, knobs[0], engine, trials=trials or 8, say=lambda t: _say(here, t, minimise))
            else:
                found = optimise(
                    spec, knobs, minimise, engine, trials=trials or 32, seed=here.seed,
                    say=lambda t: _say(here, t, minimise),
                )  # fmt: skip
        finally:
            engine.close()
        best = best_of(found, minimise)
        front = front_of(found, minimise)
        answer = {
            "folder": str(place), "minimise": minimise, "trials": [asdict(trial) for trial in found],
            "front": [asdict(trial) for trial in front], "best": None if best is None else asdict(best),
            "output": None if best is None else str(place / "model.onnx"),
        }  # fmt: skip
        at.write("search.json", {"schema": 1, **answer})
        if best is not None:
            made = Path(best.folder)
            sidecar = (made / "model.provenance.json").read_bytes()
            save(load(made / "model.onnx"), place / "model.onnx", beside={"model.provenance.json": sidecar})
            told = ", ".join(f"{key}={value}" for key, value in best.values.items())
            here.say_plain(f"best of {len(found)}: {told}; wrote {place / 'model.onnx'}")
    here.answer(answer)
    if best is None:
        here.say_plain("failed: no candidate keeps to the limits")
        raise typer.Exit(FloorError.exit_code)


def _all(steps: tuple[Step, ...]) -> list[Step]:
    """The steps, those of rounds too."""
    return [inner for step in steps for inner in (step, *_all(step.steps))]


def _say(here: Session, trial: Trial, minimise: str) -> None:
    told = ", ".join(f"{key}={value}" for key, value in trial.values.items())
    if trial.error is not None:
        here.say_plain(f"{told}: {trial.error}")
        return
    share = trial.share(minimise)
    figures = [] if share is None else [f"{minimise} {share:.1%}"]
    figures += [] if trial.loss is None else [f"worse by {trial.loss:.4g}"]
    outcome = "out at the screen" if trial.screened else "passed" if trial.passed else "not within the limits"
    here.say_plain(f"{told}: {', '.join(figures)}, {outcome}")
