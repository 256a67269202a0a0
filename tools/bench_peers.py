"""Runs the two peers over the zoo: Torch-Pruning on the torch sources, onnxsim on the exported files.

    python tools/bench_peers.py --zoo build/zoo --out build/peers.json

One process at a time, each under a limit of processor time. What the result file holds already is skipped.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from zoo.catalogue import catalogue
from zoo.isolated import Task, run, start_server
from zoo.store import JsonStore

PEERS = ("torch-pruning", "onnxsim")
# Building a model and importing its library come on top of the peer's own time.
_PREPARATION = 240.0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--zoo", type=Path, default=Path("build/zoo"), help="folder written by make_zoo.py")
    parser.add_argument("--out", type=Path, default=Path("build/peers.json"), help="results, read and extended")
    parser.add_argument("--only", default="*", metavar="GLOB", help="architectures, by name")
    parser.add_argument("--peer", choices=[*PEERS, "both"], default="both")
    parser.add_argument("--ratio", type=float, default=0.5)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds of processor time for one file")
    parser.add_argument("--summary", action="store_true", help="print the table of what is there and stop")
    return parser.parse_args()


def _tasks(options: argparse.Namespace) -> Iterator[tuple[str, Task, tuple[Any, ...]]]:
    """Key in the result file, task and arguments. An architecture counts where an export of it exists."""
    from peers import onnxsim_run, torch_pruning_run

    manifest: dict[str, Any] = json.loads((options.zoo / "manifest.json").read_text())
    limits = (options.ratio, options.limit)
    for entry in catalogue():
        files = [name for name in entry.files().values() if name in manifest]
        if not files or not fnmatch.fnmatch(entry.name, options.only):
            continue
        # An opset or a way of exporting makes no other torch source.
        if options.peer != "onnxsim" and "ts" in entry.exporters and entry.fuse_batch_norm:
            yield f"torch-pruning/{entry.name}", torch_pruning_run.prune, (entry.name, *limits)
        if options.peer != "torch-pruning":
            for name in files:
                yield f"onnxsim/{name}", onnxsim_run.prune, (str(options.zoo / name), manifest[name], *limits)


def summary(results: dict[str, Any]) -> Table:
    """Counts by peer; the shares are of parameters left, over the runs that worked."""
    table = Table("peer", "on", "run", "fail", "time-out", "<=45 %", "<=62 %", "median")
    for peer in PEERS:
        mine = [value for key, value in results.items() if key.startswith(f"{peer}/")]
        status = [value["status"] for value in mine]
        shares = [value["share"] for value in mine if value["status"] == "run"]
        counts = [len(mine), *(status.count(s) for s in ("run", "fail", "timeout"))]
        within = [sum(share <= bound for share in shares) for bound in (0.45, 0.62)]
        median = f"{statistics.median(shares):.0%}" if shares else "-"
        table.add_row(peer, *map(str, counts), *map(str, within), median)
    return table


def main() -> None:
    options = _arguments()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    results, console = JsonStore(options.out), Console()
    if not options.summary:
        start_server("peers.preload")
        for key, task, arguments in _tasks(options):
            if key not in results:
                result = run(task, arguments, 3 * options.limit + _PREPARATION)
                results.put(key, result)
                detail = f"{result['share']:.1%} left" if "share" in result else result.get("why", "")
                console.print(f"{key:60} {result['status']:8} {detail}", highlight=False, markup=False, soft_wrap=True)
    console.print(summary(results.entries()))


if __name__ == "__main__":
    main()
