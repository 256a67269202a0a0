"""Speed as ratios: analyse + score + plan + apply against onnx.load + onnx.save and Torch-Pruning; start-up.

    python tools/bench_speed.py --zoo build/zoo
    python tools/bench_speed.py --zoo build/zoo --clock processor    # on a machine that is busy with other things

For each model the steps run in turn, round after round, in one process; figures are medians. Start-up times are whole
processes, in turn too. Torch-Pruning (1.6.1, tools/requirements.txt) builds its graph and prunes the same
architecture from the torch sources, without loading or saving anything. All run in one thread: torch's threads wait
actively for each other, which on a busy machine would count against it.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch are loaded

import onnx
from rich.console import Console
from rich.table import Table

from onnxprune.analyse import analyse
from onnxprune.edit import edit
from onnxprune.edit.selection import orders_of, removed_classes_of
from onnxprune.graph.io import save
from onnxprune.importance import score
from onnxprune.plan import plan
from onnxprune.types import Budget

MODELS = {
    "resnet50": "resnet50.ts.onnx",
    "vit_b_16": "vit_b_16.dynamo.onnx",
    "swin_t": "swin_t.ts.onnx",
}


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "processor": time.process_time}


def children() -> float:
    """Seconds of processor time that finished child processes have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed(work: Callable[[], object], clock: Callable[[], float]) -> float:
    started = clock()
    work()
    return clock() - started


def load_and_save(path: Path, folder: Path) -> None:
    onnx.save(onnx.load(path), folder / "copied.onnx")


def prune(path: Path, folder: Path, *, write: bool) -> None:
    coupling = analyse(path)
    chosen = plan(coupling, score(coupling), Budget(ratio=0.5))
    edited = edit(coupling, removed_classes_of(coupling, chosen), orders_of(coupling, chosen))
    if write:
        save(edited.model, folder / "pruned.onnx")


def torch_pruning(name: str, clock: Callable[[], float]) -> Callable[[], float] | None:
    """A function that prunes a fresh model from the torch sources and gives the seconds; None if not installed."""
    try:
        import torch_pruning as peer
        from peers.torch_pruning_run import ignored_layers
        from zoo.catalogue import catalogue
        from zoo.export import outputs_of, prepare
    except ImportError as error:
        print(f"Torch-Pruning left out: {error}", file=sys.stderr)
        return None
    entry = next(e for e in catalogue() if e.name == name)

    def measure() -> float:
        warnings.simplefilter("ignore")
        model, args = prepare(entry)
        ignored = ignored_layers(entry, model, outputs_of(model(*args)))
        importance = peer.importance.GroupMagnitudeImportance(p=2)

        def work() -> None:
            pruner = peer.pruner.BasePruner(
                model, args, importance=importance, pruning_ratio=0.5, ignored_layers=ignored
            )
            pruner.step()

        return timed(work, clock)

    return measure


def start_up(console: Console, zoo: Path, rounds: int, clock: Callable[[], float]) -> None:
    """`onnxprune --help` and `inspect` against the imports that they cannot do without."""
    model = str(zoo / MODELS["resnet50"])
    script = str(Path(sys.executable).with_name("onnxprune"))
    pairs = {
        "onnxprune --help / import typer, rich": (
            [script, "--help"],
            [sys.executable, "-c", "import typer, rich"],
        ),
        "onnxprune inspect resnet50 / import onnx; onnx.load": (
            [script, "inspect", model],
            [sys.executable, "-c", f"import onnx; onnx.load({model!r})"],
        ),
    }

    def process(command: list[str]) -> float:
        return timed(lambda: subprocess.run(command, capture_output=True, check=True), clock)

    table = Table("start-up", "ours, s", "reference, s", "ratio")
    for name, (ours, reference) in pairs.items():
        process(ours), process(reference)
        times = [(process(ours), process(reference)) for _ in range(rounds)]
        mine, theirs = (statistics.median(side) for side in zip(*times, strict=True))
        table.add_row(name, f"{mine:.3f}", f"{theirs:.3f}", f"{statistics.median(a / b for a, b in times):.2f}")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, default=Path("build/zoo"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="what seconds are: time, or processor time")
    parser.add_argument("--only", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument(
        "--peer",
        nargs="*",
        default=["resnet50", "vit_b_16"],
        help="models that Torch-Pruning prunes too (Swin-T: minutes)",
    )
    arguments = parser.parse_args()
    clock = CLOCKS[arguments.clock]
    console = Console(width=160 if not sys.stdout.isatty() else None)
    table = Table(
        "model", "MB", "analyse to apply, s", "with save, s", "onnx load+save, s", "ratio", "ratio with save",
        "Torch-Pruning, s", "times",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model, file in MODELS.items():
            path = arguments.zoo / file
            if model not in arguments.only:
                continue
            if not path.exists():
                console.print(f"{path} is missing: run tools/make_zoo.py --only {model}")
                continue
            peer = torch_pruning(model, clock) if model in arguments.peer else None
            works: list[Callable[[], float]] = [
                partial(timed, partial(prune, path, folder, write=False), clock),
                partial(timed, partial(prune, path, folder, write=True), clock),
                partial(timed, partial(load_and_save, path, folder), clock),
                *([peer] if peer else []),
            ]
            for work in works:
                work()
            rounds = [[work() for work in works] for _ in range(arguments.rounds)]
            medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
            table.add_row(
                model,
                f"{path.stat().st_size / 1e6:.0f}",
                *(f"{seconds:.3f}" for seconds in medians[:3]),
                f"{statistics.median(r[0] / r[2] for r in rounds):.2f}",
                f"{statistics.median(r[1] / r[2] for r in rounds):.2f}",
                f"{medians[3]:.3f}" if peer else "-",
                f"{statistics.median(r[3] / r[0] for r in rounds):.1f}" if peer else "-",
            )
    console.print(table)
    start_up(console, arguments.zoo, arguments.rounds, clock if arguments.clock == "wall" else children)


if __name__ == "__main__":
    main()
