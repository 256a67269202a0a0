"""`onnxprune inspect`: what can be removed, what cannot, and why."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnxprune.cli.operators import Operators, OptionalModelPath, show_operators
from onnxprune.cli.options import Analysis, Common
from onnxprune.errors import SettingError

if TYPE_CHECKING:
    from onnxprune.cli.session import Session
    from onnxprune.coupling.coupling import Coupling

_ROWS = 25


Page = Annotated[
    Path | None,
    typer.Option("--html", rich_help_panel="Output", metavar="FILE", help="Write a page: groups, graph, what stays."),
]
AnnotatedCopy = Annotated[
    Path | None,
    typer.Option(
        "--annotate",
        rich_help_panel="Output",
        metavar="OUT",
        help="Write a copy whose nodes name their groups.",
    ),
]


def inspect(
    analysis: Analysis,
    common: Common,
    model: OptionalModelPath = None,
    operators: Operators = False,
    html: Page = None,
    annotate: AnnotatedCopy = None,
) -> None:
    """Show what can be removed from a model, and what cannot and why.

    Groups of units with their sizes and what they carry; what is frozen, and what would help; the share of parameters
    and MACs within reach. With --operators instead, by operator: whether removal through it is exact.
    """
    from onnxprune.cli.session import Session
    from onnxprune.cli.writing import check_targets
    from onnxprune.graph.io import load

    here = Session(common)
    if operators:
        show_operators(here, model)
        return
    if model is None:
        raise SettingError("MODEL is missing", remedy="name an ONNX file, or ask for --operators alone")
    loaded = load(model)
    check_targets(loaded, [target for target in (html, annotate) if target is not None])
    coupling = here.analyse(loaded, analysis)
    _write(coupling, model.name, html, annotate)
    if here.json:
        here.answer({"model": str(model), **_as_json(coupling)})
    elif not here.quiet:
        here.say_plain(f"{model}: {len(coupling.view.nodes)} nodes, {_opsets(coupling)}")
        _show(here, coupling)
        for target in (html, annotate):
            if target is not None:
                here.say_plain(f"wrote {target}")


def _write(coupling: Coupling, title: str, html: Path | None, annotate: Path | None) -> None:
    """The page and the annotated copy, as far as they are wanted."""
    if html is not None:
        from onnxprune.graph.atomic import AtomicFiles
        from onnxprune.report.overview import overview

        text = overview(coupling, title)
        with AtomicFiles() as files:
            files.create(html).write(text.encode())
    if annotate is not None:
        from onnxprune.graph.io import save
        from onnxprune.report.annotate import annotated

        save(annotated(coupling), annotate)


def _show(here: Session, coupling: Coupling) -> None:
    from onnxprune.cli.tables import groups_table, refusals_table
    from onnxprune.display import amount, share

    dense, least = coupling.cost(), coupling.least_cost()
    limit = None if here.verbose else _ROWS
    here.say_plain(f"{amount(dense.parameters)} parameters, {amount(dense.macs)} MACs")
    if coupling.bindings.dims:
        bound = ", ".join(f"{name}={size}" for name, size in coupling.bindings.dims.items())
        here.say_plain(f"dynamic dimensions bound for analysis: {bound} (--bind and --input-shapes change it)")
    here.say(groups_table(coupling.groups, dense, limit) if coupling.groups else "nothing can be removed")
    if coupling.refusals:
        here.say(refusals_table(coupling.refusals, limit))
    here.say_plain(
        f"within reach: {share(dense.parameters - least.parameters, dense.parameters)} of the parameters, "
        f"{share(dense.macs - least.macs, dense.macs)} of the MACs"
    )


def _opsets(coupling: Coupling) -> str:
    return ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in coupling.view.opsets.items())


def _as_json(coupling: Coupling) -> dict[str, Any]:
    return {
        "digest": coupling.view.model.digest,
        "nodes": len(coupling.view.nodes),
        "opsets": coupling.view.opsets,
        "bound": coupling.bindings.dims,
        "input_shapes": coupling.bindings.shapes,
        "dense": coupling.cost().known(),
        "least": coupling.least_cost().known(),
        "groups": [{**asdict(g), "axis": str(g.axis), "axes": [str(a) for a in g.axes]} for g in coupling.groups],
        "refusals": [asdict(r) for r in coupling.refusals],
    }
