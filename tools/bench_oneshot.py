"""One-shot pruning without labels or gradients: criterion x kept MACs -> top-1 accuracy, with dense and onnxsim beside.

    python tools/bench_oneshot.py MODEL --test TEST --calibrate TRAIN --preprocess imagenet

Labels are used for the final measurement alone. Each seed draws its own calibration samples; what is deterministic
gives the same model for every seed, and is measured once. Nothing is repaired, as long as no repair is there: this is
what choosing alone costs.

    … --test digits.npz --test-names x=image,y=labels --calibrate digits.npz --calibrate-names x=image
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from oneshot.accuracy import Measured, TestSet, hits
from oneshot.naming import named, read_names
from oneshot.ways import Bench, Pruned
from rich.console import Console
from rich.table import Table

from onnxprune.analyse import analyse
from onnxprune.errors import OnnxPruneError
from onnxprune.importance import criteria
from onnxprune.runtime.data import Data, open_data
from onnxprune.runtime.ort import RunOptions

Way = Callable[[float, int], Pruned]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--test", type=Path, required=True, help="samples with labels")
    parser.add_argument("--calibrate", type=Path, required=True, help="samples, whose labels are not looked at")
    parser.add_argument("--preprocess", help="for images, as onnxprune's option")
    parser.add_argument("--test-names", help="ARRAY=INPUT,… for a .npz under other names; labels too")
    parser.add_argument("--calibrate-names", help="the same for the calibration data")
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--macs", default="0.75,0.5", help="shares to keep")
    parser.add_argument("--criteria", help="names; all unless given")
    parser.add_argument("--rankings", default="local,global,isomorphic")
    parser.add_argument("--scope", help="kinds of groups, as onnxprune's option")
    parser.add_argument("--mask-input")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--round-to", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-peers", action="store_true")
    return parser.parse_args()


def ways(bench: Bench, given: argparse.Namespace) -> Iterator[tuple[str, str, Way]]:
    """(criterion, ranking, how to prune): ours, then the peers'."""
    for criterion in given.criteria.split(",") if given.criteria else sorted(criteria()):
        for ranking in given.rankings.split(","):
            yield criterion, ranking, lambda share, seed, c=criterion, r=ranking: bench.ours(c, r, share, seed)
    for name, way in () if given.no_peers else bench.peers():
        yield name, "", way


def main() -> None:
    given = arguments()
    console = Console(width=120)
    options = RunOptions(threads=given.threads)
    coupling = analyse(given.model)
    view = coupling.view
    with tempfile.TemporaryDirectory() as folder:
        test_path = named(given.test, view, read_names(given.test_names), Path(folder) / "test.npz")
        train_path = named(given.calibrate, view, read_names(given.calibrate_names), Path(folder) / "train.npz")

        def calibration(seed: int) -> Data:
            return open_data(train_path, view, preprocess=given.preprocess, samples=given.samples, seed=seed)

        test = TestSet.of(open_data(test_path, view, preprocess=given.preprocess, seed=None))
        scope = given.scope.split(",") if given.scope else None
        bench = Bench(coupling, calibration, options, given.round_to, scope, given.mask_input)
        started = time.perf_counter()
        dense = hits(view.model, test, options)
        console.print(
            f"{given.model.name}: dense {100 * dense.mean():.2f} % of {len(dense)} samples, measured in "
            f"{time.perf_counter() - started:.1f} s; calibration on {given.samples} samples, {given.seeds} seeds"
        )
        table = Table("criterion", "ranking", "MACs kept", "top-1, %", "to dense, points", "models", "prune, s")
        refused: dict[str, str] = {}
        for share in map(float, given.macs.split(",")):
            for name, ranking, way in ways(bench, given):
                try:
                    row = measured(way, share, given.seeds, test, dense, options)
                except OnnxPruneError as error:
                    refused[f"{name} at {share:.0%}"] = error.message
                    continue
                table.add_row(name, ranking, *row)
                print(share, name, ranking, *row, file=sys.stderr, flush=True)
            table.add_section()
        console.print(table)
        for name, why in refused.items():
            console.print(f"{name}: {why}")


def measured(
    way: Way, share: float, seeds: int, test: TestSet, dense: np.ndarray, options: RunOptions
) -> tuple[str, ...]:
    """A row: the mean over seeds, models that are equal measured once."""
    known: dict[object, np.ndarray] = {}
    runs, seconds, left = [], [], []
    for seed in range(seeds):
        started = time.perf_counter()
        pruned = way(share, seed)
        seconds.append(time.perf_counter() - started)
        if pruned.key not in known:
            known[pruned.key] = hits(pruned.model, test, options)
        runs.append(known[pruned.key])
        left.append(pruned.macs)
    found = Measured.of(runs, dense)
    return (
        f"{np.mean(left):.3f}", f"{found.accuracy:.2f}", f"{found.difference:+.2f} ± {found.interval:.2f}",
        str(len(known)), f"{np.mean(seconds):.1f}",
    )  # fmt: skip


if __name__ == "__main__":
    main()
