"""One shot, then recovery: what a pruned model gets back on data that nothing was learnt from, with dense beside.

    python tools/bench_recover.py MODEL --train TRAIN --test TEST --macs 0.5 -- --epochs 3 --lr 0.05

Prunes to a share of the MACs (or takes --pruned), recovers with the dense model as teacher, and measures top-1 in ONNX
Runtime on the test data: dense, one shot, recovered, with a paired 95 % interval over samples and all seeds. What
follows `--` goes to `onnxprune recover`. Data sets come under other names with --train-names x=image,y=labels.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from oneshot.accuracy import Measured, TestSet, hits
from oneshot.naming import named, read_names

from onnxprune.graph.io import load
from onnxprune.graph.view import GraphView
from onnxprune.runtime.data import open_data
from onnxprune.runtime.ort import RunOptions


def arguments() -> tuple[argparse.Namespace, list[str]]:
    """Our own, and what goes to `onnxprune recover`."""
    own, _, others = " ".join(sys.argv[1:]).partition(" -- ")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--train-names")
    parser.add_argument("--test-names")
    parser.add_argument("--preprocess")
    parser.add_argument("--macs", default="0.5")
    parser.add_argument("--criterion", default="wanda")
    parser.add_argument("--ranking", default="global")
    parser.add_argument("--prune", default="", help="further options of `onnxprune prune`")
    parser.add_argument("--pruned", type=Path, help="a model that was pruned already")
    parser.add_argument("--no-teacher", action="store_true")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", default="1")
    return parser.parse_args(own.split()), others.split()


def main() -> None:
    given, others = arguments()
    options = RunOptions(threads=int(given.threads))
    view = GraphView(load(given.model))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train = named(given.train, view, read_names(given.train_names), folder / "train.npz")
        test_path = named(given.test, view, read_names(given.test_names), folder / "test.npz")
        test = TestSet.of(open_data(test_path, view, preprocess=given.preprocess, seed=None))
        how = ["--preprocess", given.preprocess] if given.preprocess else []
        common = ["--data", str(train), *how, "--threads", given.threads]
        pruned = given.pruned or folder / "pruned.onnx"
        if given.pruned is None:
            budget = ["--max-macs", f"{float(given.macs):.0%}", "--round-to", "1"]
            choice = ["--criterion", given.criterion, "--ranking", given.ranking, *given.prune.split()]
            command("prune", given.model, "-o", pruned, *budget, *choice, *common)
        dense, once = (hits(load(path), test, options) for path in (given.model, pruned))
        say("dense", [dense], dense, 0.0)
        say("one shot", [once], dense, 0.0)
        runs, started = [], time.perf_counter()
        teacher = [] if given.no_teacher else ["--teacher", given.model]
        for seed in range(given.seeds):
            output = folder / f"recovered{seed}.onnx"
            command("recover", pruned, "-o", output, *teacher, "--seed", seed, *common, *others)
            runs.append(hits(load(output), test, options))
            say(f"recovered, seed {seed}", runs[-1:], dense, time.perf_counter() - started)
        say(f"recovered, {given.seeds} seeds", runs, dense, time.perf_counter() - started)


def command(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "onnxprune", *map(str, words)], check=True)


def say(what: str, runs: list[np.ndarray], dense: np.ndarray, seconds: float) -> None:
    found = Measured.of(runs, dense)
    print(f"{what}: {found.accuracy:.2f} %, {found.difference:+.2f} ± {found.interval:.2f} points to dense, "
          f"{seconds:.0f} s", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
