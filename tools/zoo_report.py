"""Prune every file of a folder at one ratio, check each, and print the table beside the peers' figures.

    python tools/zoo_report.py build/zoo --exact-only --pruning-ratio 0.5
    python tools/zoo_report.py build/zoo --pruning-ratio 0.5 --peers build/peers.json
    python tools/zoo_report.py build/zoo_opt --exact-only --every 5 --json build/opt.json

With --exact-only every file that changes is compared with its masked dense model (fp32, 1e-4 of the output's
scale; detectors before their selection), and the masked model must differ from the dense one, so that the comparison
is not blind. A quantised file may also be within one quantisation step of its output (zoo_check.py says of which, and
how both models are run). With --json a run that was stopped goes on where it was. Exits non-zero where a file crashes,
is invalid, does not run or is not equal.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table
from zoo.isolated import run, start_server
from zoo.picking import add_options, picked
from zoo.store import JsonStore
from zoo_check import check_within

TOLERANCE = 1e-4
NOT_BLIND = 1e-3
STEPS = 1 + 1e-3  # of quantisation; a scale is a float
SMALL = 0.45
SECONDS = 300  # of processor time
BUSY = 10  # times that, on a machine that does other things too
GOOD = ("pruned", "unchanged")


def examine(path: Path, ratio: float, exact_only: bool, shapes: dict[str, dict[str, list[int]]]) -> dict[str, Any]:
    """Check one file in a process of its own: a crash or a time-out is a result, not the end of the report."""
    arguments = (str(path), ratio, exact_only, shapes.get(path.name, {}), SECONDS)
    found = run(check_within, arguments, BUSY * SECONDS)
    if found["status"] in ("timeout", "fail"):
        found = {"status": {"timeout": "time-out", "fail": "crash"}[found["status"]], "error": found.get("why", "")}
    if "error_of_scale" in found:
        if not (found["error_of_scale"] <= TOLERANCE or found.get("steps", STEPS + 1) <= STEPS):
            found["status"] = "not equal"
        elif found["masked_differs"] < NOT_BLIND:
            found["status"] = "blind"
    return {"file": path.name, **found}


def table(results: list[dict[str, Any]]) -> Table:
    """One row a file."""
    shown = Table()
    sizes = ("parameters left", "MACs left")
    for column in ("file", "status", *sizes, "error of scale", "steps", "masked differs", "remark"):
        shown.add_column(column)
    for r in results:
        remark = r.get("error", "")
        if not remark and r.get("left", 0) > SMALL and r.get("why"):
            remark = "; ".join(f"{count} axes: {why}" for why, count in r["why"][:2])
        shown.add_row(
            r["file"],
            r["status"],
            f"{r['left']:.3f}" if "left" in r else "",
            f"{r['macs']:.3f}" if "macs" in r else "",
            f"{r['error_of_scale']:.1e}" if "error_of_scale" in r else "",
            f"{r['steps']:.2f}" if "steps" in r else "",
            f"{r['masked_differs']:.1e}" if "masked_differs" in r else "",
            remark,
        )
    return shown


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares over all files."""
    good = [r for r in results if r["status"] in GOOD]
    left = [r["left"] for r in good]
    return {
        "files": len(results),
        "valid and runnable": len(good),
        "changed": sum(r["status"] == "pruned" for r in results),
        "median of parameters left": round(statistics.median(left), 4) if left else None,
        f"at most {SMALL:.0%} left": sum(share <= SMALL for share in left),
        "crashed": sum(r["status"] in ("crash", "time-out") for r in results),
        "equal to the bit": sum(r.get("error_of_scale") == 0.0 for r in results),
        "worst steps": max((r.get("steps", 0.0) for r in results), default=0.0),
        "worst error of scale": max((r.get("error_of_scale", 0.0) for r in results), default=0.0),
        "median seconds": round(statistics.median([r["seconds"] for r in good if "seconds" in r] or [0.0]), 3),
    }


def by_kind(results: list[dict[str, Any]]) -> Table | None:
    """The summary for each kind of file (`NAME.KIND.onnx`), None where that tells nothing."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for r in results:
        kinds.setdefault(r["file"].removesuffix(".onnx").rpartition(".")[2], []).append(r)
    if len(kinds) < 2 or min(map(len, kinds.values())) < 2:
        return None
    shown = Table(title="by kind")
    shown.add_column("")
    for kind in sorted(kinds):
        shown.add_column(kind)
    columns = [summary(kinds[kind]) for kind in sorted(kinds)]
    for row in columns[0]:
        shown.add_row(row, *(str(column[row]) for column in columns))
    return shown


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder of .onnx files, e.g. what make_zoo.py wrote")
    parser.add_argument("--pruning-ratio", type=float, default=0.5)
    parser.add_argument("--exact-only", action="store_true")
    add_options(parser)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--peers", type=Path, help="what bench_peers.py wrote, to print beside")
    parser.add_argument("--shapes", type=json.loads, default={}, help='{"file.onnx": {"input": [1, 576]}}')
    parser.add_argument("--json", type=Path, help="results by file, read and extended")
    arguments = parser.parse_args()
    console = Console(width=200 if not sys.stdout.isatty() else None)
    files = picked(arguments.folder, arguments)
    settings = f"ratio {arguments.pruning_ratio:g}" + (", exact only" if arguments.exact_only else "")
    store = JsonStore(arguments.json) if arguments.json else None

    def work(path: Path) -> dict[str, Any]:
        key = f"{path.name}, {settings}"
        if store is not None and key in store:
            return dict(store[key])
        found = examine(path, arguments.pruning_ratio, arguments.exact_only, arguments.shapes)
        if store is not None:
            store.put(key, found)
        return found

    start_server("zoo_check")
    with ThreadPoolExecutor(arguments.jobs) as pool:
        results = list(track(pool.map(work, files), total=len(files), console=Console(stderr=True)))
    console.print(table(results))
    found = summary(results)
    for name, value in found.items():
        console.print(f"{name}: {value}")
    if (kinds := by_kind(results)) is not None:
        console.print(kinds)
    if arguments.peers:
        print_peers(console, json.loads(arguments.peers.read_text()), found)
    return 0 if found["valid and runnable"] == found["files"] else 1


def print_peers(console: Console, peers: dict[str, Any], ours: dict[str, Any]) -> None:
    """The same shares of the peers, as bench_peers.py measured them."""
    shown = Table(title="beside the peers, at the same ratio")
    for column in ("tool", "tried", "valid and runnable", f"at most {SMALL:.0%} left", "median left"):
        shown.add_column(column)
    shown.add_row(
        "onnxprune", str(ours["files"]), str(ours["valid and runnable"]), str(ours[f"at most {SMALL:.0%} left"]),
        str(ours["median of parameters left"]),
    )  # fmt: skip
    for tool in sorted({key.split("/")[0] for key in peers}):
        mine = [result for key, result in peers.items() if key.startswith(f"{tool}/")]
        shares = [result["share"] for result in mine if result["status"] == "run"]
        shown.add_row(
            tool, str(len(mine)), str(len(shares)), str(sum(share <= SMALL for share in shares)),
            f"{statistics.median(shares):.3f}" if shares else "-",
        )  # fmt: skip
    console.print(shown)


if __name__ == "__main__":
    sys.exit(main())
