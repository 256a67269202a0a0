"""The same search in turn and on a cluster of two workers, one of which is killed: the fronts must be the same.

    python tools/sweep_cluster.py [--trials 32] [--engine dask|ray]

Candidates are runs of the quickstart's model, pruned and validated. What is minimised are MACs, which do not depend on
the machine's load.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from onnxprune.loop.candidate import Spec, Trial
from onnxprune.loop.engine import Dask, Engine, Local, Ray
from onnxprune.loop.knobs import read_knob
from onnxprune.loop.search import front_of, optimise

SAMPLE = Path(__file__).resolve().parent.parent / "samples" / "01_quickstart"
RECIPE = f"""\
model: {SAMPLE / "digits.onnx"}
defaults: {{threads: 1, no-verify: true}}
steps:
  - prune: {{max-macs: 90%}}
  - validate: {{data: {SAMPLE / "digits_test.npz"}, metric: top1, max-drop: 0.05}}
"""
KNOBS = ["prune.max-macs=98%:30%", "prune.ranking=local|global", "prune.criterion=l1|l2|lamp", "prune.round-to=1:8"]


def sweep(folder: Path, engine: Engine, trials: int) -> list[Trial]:
    """All trials of one search in a folder of its own."""
    folder.mkdir()
    (folder / "recipe.yaml").write_text(RECIPE)
    spec = Spec(str(folder / "recipe.yaml"), str(folder))
    try:
        return optimise(spec, [read_knob(knob) for knob in KNOBS], "macs", engine, trials=trials)
    finally:
        engine.close()


@contextmanager
def dask() -> Iterator[tuple[Engine, Callable[[], list[int]]]]:
    """An engine on two workers of this machine, and what tells their processes."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield Dask(cluster.scheduler_address), lambda: [worker.pid for worker in cluster.workers.values()]


@contextmanager
def ray() -> Iterator[tuple[Engine, Callable[[], list[int]]]]:
    """The same of Ray: its workers are the processes that call themselves ray::evaluate while they run one."""
    options = ["--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats"]
    subprocess.run(["ray", "start", "--head", *options], check=True, capture_output=True)
    try:
        yield Ray("auto"), lambda: [p.pid for p in psutil.process_iter() if p.name().startswith("ray::evaluate")]
    finally:
        subprocess.run(["ray", "stop"], check=True, capture_output=True)


def kill_one(pids: Callable[[], list[int]]) -> None:
    for pid in pids()[:1]:
        os.kill(pid, signal.SIGKILL)
        print(f"killed worker {pid}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--engine", choices=("dask", "ray"), default="dask")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        began = time.perf_counter()
        serial = sweep(Path(temporary, "serial"), Local(1), args.trials)
        alone = time.perf_counter() - began
        with (dask if args.engine == "dask" else ray)() as (engine, pids):
            threading.Timer(alone / 6, kill_one, [pids]).start()
            began = time.perf_counter()
            spread = sweep(Path(temporary, "spread"), engine, args.trials)
            together = time.perf_counter() - began
    same = [(t.values, t.code, t.loss, t.shares) for t in serial] == [
        (t.values, t.code, t.loss, t.shares) for t in spread
    ]
    fronts = [[(t.values, t.loss) for t in front_of(trials, "macs")] for trials in (serial, spread)]
    print(f"{args.trials} candidates in turn {alone:.0f} s, on two workers with one killed {together:.0f} s")
    print(f"trials the same: {same}; front of {len(fronts[0])} the same: {fronts[0] == fronts[1]}")
    if fronts[0] != fronts[1] or any(trial.error for trial in spread):
        raise SystemExit("the searches differ")


if __name__ == "__main__":
    main()
