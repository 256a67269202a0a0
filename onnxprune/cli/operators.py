"""`onnxprune inspect --operators`: what is known of operators, all of them or those of one model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from onnxprune.cli.session import Session
    from onnxprune.ops.coverage import Row

OptionalModelPath = Annotated[
    Path | None, typer.Argument(metavar="MODEL", help="The ONNX file. With --operators it may be left out.")
]
Operators = Annotated[
    bool,
    typer.Option(
        "--operators",
        rich_help_panel="Printing",
        help="Show what is known of the operators of MODEL, or of all operators.",
    ),
]


def show_operators(here: Session, model: Path | None) -> None:
    """Print a row for each operator, with how many nodes of the model are of it, or the same as JSON."""
    from onnxprune.ops.coverage import rows

    counts: Counter[tuple[str, str]] = Counter()
    shown = rows()
    if model is not None:
        from onnxprune.graph.io import load
        from onnxprune.graph.view import GraphView
        from onnxprune.ops.coverage import rows_of

        view = GraphView(load(model))
        counts = Counter((node.domain, node.op) for node in view.nodes)
        shown = rows_of(view)
    if here.json:
        found = [{**asdict(row), "nodes": counts[row.domain, row.op]} if model else asdict(row) for row in shown]
        here.answer({"operators": found} if model is None else {"model": str(model), "operators": found})
    else:
        here.say(_table(shown, counts))


def _table(shown: Sequence[Row], counts: Counter[tuple[str, str]]) -> Table:
    from rich.table import Table

    table = Table(title=f"{len(shown)} operators", title_justify="left")
    for column in ("operator", "opset", "effect", "what to know"):
        table.add_column(column, overflow="fold")
    if counts:
        table.add_column("nodes", justify="right")
    for row in shown:
        name = f"{row.domain}.{row.op}" if row.domain else row.op
        nodes = [str(counts[row.domain, row.op])] if counts else []
        table.add_row(name, str(row.since), row.effect, row.note or row.says, *nodes)
    return table
