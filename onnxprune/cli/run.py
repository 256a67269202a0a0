"""`onnxprune run`: take the steps of a recipe."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnxprune.cli.options import Common

if TYPE_CHECKING:
    from onnxprune.cli.session import Session
    from onnxprune.loop.runner import Done, Outcome

_RUN = "Run"

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.")]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder", rich_help_panel=_RUN, metavar="DIR", help="Where steps work.  [default: RECIPE's name.run]"
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", rich_help_panel=_RUN, metavar="KEY=VALUE", help="Override, as prune.max-macs=60% (repeatable)."
    ),
]
Anew = Annotated[bool, typer.Option("--anew", rich_help_panel=_RUN, help="Discard what the folder's run has done.")]
Wait = Annotated[
    float,
    typer.Option("--wait", rich_help_panel=_RUN, min=0, metavar="S", help="Seconds to wait for another run."),
]
Reuse = Annotated[
    Path | None,
    typer.Option("--reuse", rich_help_panel=_RUN, metavar="DIR", help="Take over steps that this run has done alike."),
]
Report = Annotated[bool, typer.Option("--report", rich_help_panel=_RUN, help="Write report.html there at the end.")]


def run(
    recipe: RecipePath,
    common: Common,
    folder: Folder = None,
    sets: Sets = None,
    anew: Anew = False,
    wait: Wait = 0.0,
    reuse: Reuse = None,
    report: Report = False,
) -> None:
    """Take the steps of a recipe, and go on where a run was cut short.

    Each step works in its own folder of the run's folder, which then holds its model, plan, figures and log. The result
    is model.onnx there, with model.provenance.json. Exits with 9 where a validation breaks its limit.
    """
    from onnxprune.cli.invoke import invoke
    from onnxprune.cli.session import Session, require
    from onnxprune.errors import SettingError
    from onnxprune.loop.folder import RunFolder
    from onnxprune.loop.runner import Runner

    here = Session(common)
    require("pydantic", "recipes", "loop")
    from onnxprune.cli.recipe import read_recipe

    read = read_recipe(recipe, [*(sets or ()), *common_sets(common)])
    place = (folder or recipe.with_suffix(".run")).resolve()
    if not Path(read.folder, read.model).is_file():
        raise SettingError(
            f"{recipe}: the model {read.model} is not there", remedy="paths are relative to the recipe's folder"
        )
    at = RunFolder(place)
    other = None if reuse is None else RunFolder(reuse.resolve())
    with at.locked(wait), contextlib.chdir(read.folder):
        outcome = Runner(at, read, invoke, lambda done: _say(here, done), other).run(anew=anew)
    if report:
        from onnxprune.cli.report import write_report

        write_report(here, place, place / "report.html")
    _finish(here, place, outcome)


def common_sets(common: Common) -> list[str]:
    """What of the options is meant for all steps, as `--set` has it: those that are not as they are by default."""
    plain = Common()
    found = []
    for name in ("provider", "threads", "seed"):
        if getattr(common, name) != getattr(plain, name):
            found.append(f"defaults.{name}={getattr(common, name)}")
    if common.provider_option:
        found.append(f"defaults.provider-option={json.dumps(common.provider_option)}")
    if common.custom_op_library:
        listed = ", ".join(json.dumps(str(path.resolve())) for path in common.custom_op_library)
        found.append(f"defaults.custom-op-library=[{listed}]")
    return found


def _say(here: Session, done: Done) -> None:
    how = "done before" if done.resumed else f"{done.step['seconds']:.1f} s"
    what = {0: "", 4: ": the budget cannot be met", 9: ": a limit is broken"}[done.step["code"]]
    here.say_plain(f"{done.name} ({how}){what}{told(done.step['found'])}")


def told(found: dict[str, Any]) -> str:
    """The figures of a step's answer that a person wants to see as it runs."""
    from onnxprune.report.tables import figure

    parts = []
    before, after = found.get("before"), found.get("after")
    if before and after:
        parts += [f"{name} {after[name] / before[name]:.1%}" for name in ("macs", "parameters") if before.get(name)]
    if "pruned" in found and "dense" in found:
        pruned, dense = (figure(found[name]) for name in ("pruned", "dense"))
        parts.append(f"{found['metric']} {pruned} (dense {dense})")
    if "latency" in found:  # of a validation; a plan that keeps to --max-latency has its own form of it
        timed = found["latency"]
        parts.append(f"latency {timed['ratio']['median'] if 'ratio' in timed else timed['share']:.1%}")
    return "  " + ", ".join(parts) if parts else ""


def _show_headline(here: Session, place: Path) -> None:
    """Figures before and after all steps, as a report has them at its head."""
    from rich.table import Table

    from onnxprune.report.facts import gather
    from onnxprune.report.tables import tables

    headline = tables(gather(place))[0]
    if not headline.rows:
        return
    table = Table(*headline.columns, title_justify="left")
    for row in headline.rows:
        table.add_row(*row)
    here.say(table)
    if headline.note:
        here.say_plain(f"{headline.note}.")


def _finish(here: Session, place: Path, outcome: Outcome) -> None:
    from onnxprune.errors import BudgetError, FloorError
    from onnxprune.loop.runner import MODEL

    for name in outcome.rolled_back:
        here.say_plain(f"taken back: {name}")
    made = outcome.model.parent.parent == place
    _show_headline(here, place)
    if made:
        here.say_plain(f"wrote {place / MODEL}, from {outcome.model.parent.name}")
    here.answer(
        {
            "folder": str(place),
            "output": str(place / MODEL) if made else None,
            "steps": [{"name": done.name, "resumed": done.resumed, **done.step} for done in outcome.steps],
            "rolled_back": outcome.rolled_back,
            "failed": None if outcome.failed is None else outcome.failed.name,
        }
    )
    if outcome.failed is not None:
        found = outcome.failed.step["found"]
        why = "; ".join(found.get("broken", [])) or found.get("error", "")
        here.say_plain(f"failed: {outcome.failed.name}: {why}")
        failed = BudgetError if outcome.failed.step["code"] == BudgetError.exit_code else FloorError
        raise typer.Exit(failed.exit_code)
