"""`onnxprune check-sparsity`: what the hardware can use of a model's zeros."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnxprune.cli.options import Common, ModelPath
from onnxprune.cli.sparsifying import PatternName, Share

if TYPE_CHECKING:
    from onnxprune.cli.session import Session
    from onnxprune.runtime.buildlog import BuildLog
    from onnxprune.sparsity.check import Checked, Row
    from onnxprune.sparsity.patterns import Pattern

_ROWS = 40


def check_sparsity(
    model: ModelPath,
    common: Common,
    pattern: PatternName = "2:4",
    sparsity: Share = None,
    require: Annotated[
        float | None,
        typer.Option(metavar="R", min=0, max=1, help="Fail where less than this share of what is eligible complies."),
    ] = None,
    tensorrt: Annotated[
        int, typer.Option(metavar="V", min=8, help="TensorRT's major version; from 11 on float32 stays float32.")
    ] = 11,
    build_log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The log of a build: which layers TensorRT picked.")
    ] = None,
) -> None:
    """Tell which weights follow a sparsity pattern, and which TensorRT could use.

    Compliant, eligible and likely to pay are three things; which layers are picked only a build log says. Exits with 8
    where less complies than --require asks for.
    """
    from onnxprune.cli.session import Session
    from onnxprune.graph.io import load
    from onnxprune.graph.view import GraphView
    from onnxprune.runtime.buildlog import read_build_log
    from onnxprune.sparsity.check import check
    from onnxprune.sparsity.patterns import check_share, parse_pattern
    from onnxprune.sparsity.weights import find_weights

    here = Session(common)
    wanted = parse_pattern(pattern)
    share = check_share(sparsity, wanted)
    log = None if build_log is None else read_build_log(build_log)
    view = GraphView(load(model))
    checked = check(view, find_weights(view), wanted, share, tensorrt)
    _show(here, wanted, checked, log)
    if require is not None:
        checked.require(require, wanted)
    here.answer(_as_json(model, wanted, checked, log))


def _as_json(model: Path, pattern: Pattern, checked: Checked, log: BuildLog | None) -> dict[str, Any]:
    rows = [
        {**asdict(row), "eligible": row.eligible, "pays": row.pays, **({"trt": log.says(row.node)} if log else {})}
        for row in checked.rows
    ]
    return {
        "model": str(model), "pattern": str(pattern), "share": checked.share, "weights": rows,
        "passed": [asdict(passed) for passed in checked.passed],
        **({"build_log": asdict(log)} if log else {}),
    }  # fmt: skip


def _show(here: Session, pattern: Pattern, checked: Checked, log: BuildLog | None) -> None:
    from rich.table import Table

    from onnxprune.display import share

    table = Table(title=f"Weights and {pattern}", title_justify="left")
    columns = ["weight", "node", "shape", "type", "zeros", "compliant", "eligible", "likely to pay"]
    for column in [*columns, *(["TensorRT"] if log else [])]:
        table.add_column(column, justify="right" if column == "zeros" else "left", overflow="fold")
    limit = None if here.verbose else _ROWS
    for row in checked.rows[:limit]:
        cells = [
            row.weight, f"{row.node} ({row.op})", "x".join(map(str, row.shape)), row.dtype.lower(),
            share(row.zeros, 1), "yes" if row.compliant else f"{100 * row.fit:.1f} % of it",
            "yes" if row.eligible else f"no: {row.why_not_eligible}", _pays(row),
        ]  # fmt: skip
        table.add_row(*cells, *([log.says(row.node) or "not named"] if log else []))
    if limit is not None and len(checked.rows) > limit:
        table.caption = f"{len(checked.rows) - limit} further weights not shown; -v shows all"
    here.say(table if checked.rows else "the model has no weights that could be sparse")
    for (name, why), count in Counter((p.name, p.why) for p in checked.passed).items():
        here.say_plain(f"  {name}: {why}" + (f" ({count} readers)" if count > 1 else ""))
    compliant = sum(row.compliant for row in checked.rows)
    eligible = [row for row in checked.rows if row.eligible]
    here.say_plain(
        f"{compliant} of {len(checked.rows)} weights follow {pattern}; {len(eligible)} are eligible, of whose elements "
        f"{share(checked.share, 1)} comply; {sum(row.pays and row.compliant for row in checked.rows)} comply and are "
        "likely to pay"
    )
    if log is not None:
        here.say_plain(
            f"the build log: {log.eligible_count} layers eligible, {log.picked_count} picked with sparse kernels"
        )


def _pays(row: Row) -> str:
    if not row.eligible:
        return "no"
    return f"no: {row.why_not_paying}" if row.why_not_paying else "yes"
