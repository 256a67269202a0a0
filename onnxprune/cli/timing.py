"""Speed on the command line: two models timed in turn, and what of it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnxprune.cli.session import Session

if TYPE_CHECKING:
    from rich.table import Table

    from onnxprune.runtime.data import Data

_SPEED = "Latency"
_SHARES = (50, 90, 99)


@dataclass(frozen=True)
class Timed:
    """Whether and how both models are timed."""

    latency: Annotated[
        bool, typer.Option("--latency", rich_help_panel=_SPEED, help="Time both models, in turn, under --threads.")
    ] = False
    latency_batch: Annotated[int, typer.Option(rich_help_panel=_SPEED, min=1, metavar="N", help="Samples a run.")] = 1
    rounds: Annotated[
        int, typer.Option(rich_help_panel=_SPEED, min=5, metavar="N", help="Rounds at most; 20 seconds end them.")
    ] = 200
    max_latency: Annotated[
        float | None,
        typer.Option(rich_help_panel=_SPEED, metavar="R", help="Share of the dense model's time to keep within."),
    ] = None


def time_both(here: Session, dense: Path, pruned: Path, data: Data, given: Timed) -> dict[str, Any]:
    """Milliseconds of both models on the data's first samples, and their ratio, as plain data."""
    from onnxprune.runtime.latency import Effort, Runner, clock_for, ratio, time_in_turn
    from onnxprune.runtime.layers import time_layers

    feeds = next(iter(data.batches(given.latency_batch, pad=True))).feeds
    with here.step("Timing both models"):
        runners = [Runner.of(path, feeds, here.options) for path in (dense, pruned)]
        clock = clock_for(here.options)
        before, after = time_in_turn(runners, Effort(given.rounds), clock)
        layers = [time_layers(path, feeds, here.options) for path in (dense, pruned)]
    return {
        "provider": here.options.provider,
        "threads": here.options.threads,
        "batch": given.latency_batch,
        "clock": clock,
        "rounds": len(before.samples),
        "dense_ms": {f"p{share}": before.percentile(share) for share in _SHARES},
        "pruned_ms": {f"p{share}": after.percentile(share) for share in _SHARES},
        "ratio": vars(ratio(after, before)),
        "layers": _side_by_side(*layers),
    }


def _side_by_side(
    dense: Mapping[str, tuple[str, float]], pruned: Mapping[str, tuple[str, float]]
) -> list[dict[str, Any]]:
    """A row for every node that one of both runs: None where the other does not."""
    return [
        {
            "name": name, "op": (dense.get(name) or pruned[name])[0],
            "dense_ms": round(dense[name][1], 5) if name in dense else None,
            "pruned_ms": round(pruned[name][1], 5) if name in pruned else None,
        }
        for name in dict.fromkeys([*dense, *pruned])
    ]  # fmt: skip


def latency_table(found: dict[str, Any]) -> Table:
    """Percentiles of both, and what share of the dense model's time the pruned one takes."""
    from rich.table import Table

    table = Table("latency", "dense", "pruned", "left", title_justify="left")
    for share in _SHARES:
        name = f"p{share}"
        left = found["ratio"]
        interval = f"{left['median']:.1%}  ({left['low']:.1%} to {left['high']:.1%})" if share == _SHARES[0] else ""
        table.add_row(name, f"{found['dense_ms'][name]:.3f} ms", f"{found['pruned_ms'][name]:.3f} ms", interval)
    return table


def latency_note(found: dict[str, Any]) -> str:
    """Under which conditions the table came about."""
    threads = f"{found['threads']} threads" if found["threads"] else "threads as ONNX Runtime chooses"
    clock = "the thread's processor time" if found["clock"] == "cpu" else "wall time"
    return (
        f"{clock} of {found['rounds']} rounds in turn; batch {found['batch']}, "
        f"{threads if found['threads'] != 1 else '1 thread'}, {found['provider']}"
    )
