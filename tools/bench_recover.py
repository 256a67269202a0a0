"""One shot, then recovery: what a smaller model gets back on data that it is not tested on, with dense beside.

    python tools/bench_recover.py MODEL --train TRAIN --test TEST --macs 0.5 -- --flip --shift 4
    python tools/bench_recover.py MODEL --train TRAIN --test TEST --sparse 2:4 -- --epochs 1

Makes the best model in one shot (`onnxprune prune --data`, or with --sparse `onnxprune sparsify --data`; --once adds
options to it, --small names a model that it gave before), recovers it with the dense model as teacher, and measures
top-1 in ONNX Runtime on the test data: dense, one shot, recovered, with a paired 95 % interval over samples, all seeds
together, and the error of the outputs. What follows `--` goes to `onnxprune recover`. With --halves each half of the
test data is learnt from by the model that the other half judges, and TRAIN is not needed. Data sets come under other
names with --train-names x=image,y=labels. Seconds are the processor's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from oneshot.accuracy import Answers, Measured, TestSet
from oneshot.naming import named, read_names

from onnxprune.graph.io import load
from onnxprune.graph.view import GraphView
from onnxprune.runtime.data import Data, open_data
from onnxprune.runtime.ort import RunOptions


def arguments() -> tuple[argparse.Namespace, list[str]]:
    """Our own, and what goes to `onnxprune recover`."""
    own, _, others = "\0".join(sys.argv[1:]).partition("\0--\0")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--train", type=Path)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--train-names")
    parser.add_argument("--test-names")
    parser.add_argument("--preprocess")
    parser.add_argument("--halves", action="store_true")
    parser.add_argument("--macs", default="0.5")
    parser.add_argument("--sparse", help="zeros in this pattern, and all units stay")
    parser.add_argument("--samples", default="512", help="of the one shot")
    parser.add_argument("--once", default="", help="further options of the one shot")
    parser.add_argument("--small", type=Path, help="what one shot gave before (with --halves, {} for the half)")
    parser.add_argument("--no-teacher", action="store_true")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", default="1")
    return parser.parse_args(own.split("\0")), [word for word in others.split("\0") if word]


@dataclass(frozen=True)
class Fold:
    """What is learnt from, as `onnxprune` reads it, and what judges."""

    train: list[str]
    test: TestSet


def folds(given: argparse.Namespace, view: GraphView, folder: Path) -> list[Fold]:
    """One, or two that swap the halves of the test data."""
    how = ["--preprocess", given.preprocess] if given.preprocess else []
    test_path = named(given.test, view, read_names(given.test_names), folder / "test.npz")
    if not given.halves:
        train = named(given.train, view, read_names(given.train_names), folder / "train.npz")
        test = open_data(test_path, view, preprocess=given.preprocess, seed=None)
        return [Fold(["--data", str(train), *how], TestSet.of(test))]
    whole = open_data(test_path, view, preprocess=given.preprocess, seed=0)
    middle = (whole.samples or 0) // 2
    parts = [whole.part(0, middle), whole.part(middle)]
    paths = [written(part, folder / f"half{number}.npz") for number, part in enumerate(parts)]
    return [Fold(["--data", str(path)], TestSet.of(part)) for path, part in zip(paths, parts[::-1], strict=True)]


def written(data: Data, path: Path) -> Path:
    """Samples and labels as a .npz."""
    batches = [batch.feeds for batch in data.batches(64)]
    arrays = {name: np.concatenate([feeds[name] for feeds in batches]) for name in batches[0]}
    arrays["labels"] = np.asarray(data.labels)
    np.savez(path, **arrays)
    return path


def main() -> None:
    given, others = arguments()
    options = RunOptions(threads=int(given.threads))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = folds(given, GraphView(load(given.model)), folder)
        dense = tested([given.model] * len(parts), parts, options)
        say("dense", [dense], dense, 0.0)
        small = [once(given, part, folder / f"small{number}.onnx", number) for number, part in enumerate(parts)]
        say("one shot", [tested(small, parts, options)], dense, processor())
        teacher = [] if given.no_teacher else ["--teacher", given.model]
        runs: list[Answers] = []
        for seed in range(given.seeds):
            before, outputs = processor(), [folder / f"recovered{seed}.{number}.onnx" for number in range(len(parts))]
            for source, output, part in zip(small, outputs, parts, strict=True):
                rest = [*teacher, "--seed", seed, "--threads", given.threads, *part.train, *others]
                command("recover", source, "-o", output, *rest)
            runs.append(tested(outputs, parts, options))
            say(f"recovered, seed {seed}", runs[-1:], dense, processor() - before)
        say(f"recovered, {given.seeds} seeds", runs, dense, processor())


def once(given: argparse.Namespace, part: Fold, output: Path, number: int) -> Path:
    """The model that is recovered: made in one shot, or given."""
    if given.small is not None:
        return Path(str(given.small).format(number))
    what = ["sparsify", "--pattern", given.sparse] if given.sparse else ["prune", "--round-to", "1"]
    what += [] if given.sparse else ["--max-macs", f"{float(given.macs):.0%}"]
    rest = ["--samples", given.samples, "--threads", given.threads, *part.train, *given.once.split()]
    command(what[0], given.model, "-o", output, *what[1:], *rest)
    return output


def tested(models: Sequence[Path], parts: Sequence[Fold], options: RunOptions) -> Answers:
    return Answers.joined([Answers.of(load(m), part.test, options) for m, part in zip(models, parts, strict=True)])


def command(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "onnxprune", *map(str, words)], check=True)


def processor() -> float:
    """Seconds of processor time that commands have taken until now."""
    times = os.times()
    return times.children_user + times.children_system


def say(what: str, runs: list[Answers], dense: Answers, seconds: float) -> None:
    accuracy, apart, error = Measured.of(runs, dense).row()
    print(f"{what}: {accuracy} %, {apart} points to dense, error of outputs {error}, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
