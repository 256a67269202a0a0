"""The same search in turn and on a Dask cluster of two workers, one of which is killed: the fronts must be the same.

    python tools/sweep_dask.py [--trials 32]

Candidates are runs of the quickstart's model, pruned and validated. What is minimised are MACs, which do not depend on
the machine's load.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import threading
import time
from pathlib import Path

from distributed import LocalCluster

from onnxprune.loop.candidate import Spec, Trial
from onnxprune.loop.engine import Dask, Engine, Local
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=32)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        began = time.perf_counter()
        serial = sweep(Path(temporary, "serial"), Local(1), args.trials)
        alone = time.perf_counter() - began
        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
            victim = next(iter(cluster.workers.values())).pid
            threading.Timer(alone / 6, lambda: os.kill(victim, signal.SIGKILL)).start()
            began = time.perf_counter()
            spread = sweep(Path(temporary, "spread"), Dask(cluster.scheduler_address), args.trials)
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
