"""`onnxprune report`: what a run found, as a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnxprune.cli.options import Common
from onnxprune.errors import OnnxPruneError, OutputError, SettingError

if TYPE_CHECKING:
    from onnxprune.cli.session import Session
    from onnxprune.report.facts import Facts

_FORMATS = (".html", ".md", ".json")
_OWN = ("run.json", "result.json", "search.json", "model.provenance.json")

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run or a search.")]
ReportOutput = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", rich_help_panel="Output", metavar="FILE",
        help=".html, .md or .json.  [default: RUN/report.html]",
    ),
]  # fmt: skip


def report(run: RunPath, common: Common, output: ReportOutput = None) -> None:
    """Write what a run found as one page that needs no network.

    Figures before and after with their intervals, plots, each step's command, what stays and why, and where all of it
    comes from. A name that ends in .md or .json gives the same as Markdown or data.
    """
    from onnxprune.cli.session import Session

    here = Session(common)
    target = output or run / "report.html"
    if target.suffix not in _FORMATS:
        raise SettingError(f"--output {target}: unknown kind of file", remedy=f"give one of {', '.join(_FORMATS)}")
    if target.parent == run and target.name in _OWN:
        raise OutputError(f"{target} is the run's own file", remedy="choose another output")
    facts = write_report(here, run, target)
    here.answer({"output": str(target), **facts.as_dict()})


def write_report(here: Session, run: Path, target: Path) -> Facts:
    """Write the report of a run's folder to `target`, by whose ending it is HTML, Markdown or JSON."""
    import json

    from onnxprune.graph.atomic import AtomicFiles
    from onnxprune.report.facts import gather
    from onnxprune.report.html import to_html
    from onnxprune.report.markdown import to_markdown

    facts = gather(run)
    _add_refusals(here, facts)
    _add_zeros(here, facts)
    if target.suffix == ".html":
        text = to_html(facts)
    elif target.suffix == ".md":
        text = to_markdown(facts)
    else:
        text = json.dumps(facts.as_dict(), indent=1) + "\n"
    with AtomicFiles() as files:
        files.create(target).write(text.encode())
    here.say_plain(f"wrote {target}")
    return facts


def _add_refusals(here: Session, facts: Facts) -> None:
    """What stays and why, from the dense model, where it is still there."""
    from onnxprune.coupling.refusals import by_reason
    from onnxprune.graph.io import load

    try:
        coupling = here.analyse_with(load(facts.provenance["dense"]), {})
    except OnnxPruneError as error:
        here.warn(f"the report does not say what stays and why: {error}")
        return
    facts.refusals = [vars(reason) for reason in by_reason(coupling.refusals)]


def _add_zeros(here: Session, facts: Facts) -> None:
    """Where the result's weights are zero, if the run made one and it is still there."""
    from dataclasses import asdict

    from onnxprune.graph.io import load
    from onnxprune.report.zeros import zeros_of

    if facts.provenance["model_from"] is None:
        return
    try:
        model = load(Path(facts.provenance["folder"]) / "model.onnx")
    except OnnxPruneError as error:
        here.warn(f"the report does not say where weights are zero: {error}")
        return
    facts.zeros = [asdict(item) for item in zeros_of(model)]
