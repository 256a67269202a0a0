"""One-shot pruning without labels or gradients: criterion x kept MACs -> top-1 accuracy, with dense and onnxsim beside.

    python tools/bench_oneshot.py MODEL --test TEST --calibrate TRAIN --preprocess imagenet

Labels are used for the final measurement alone. Each seed draws its own calibration samples; what is deterministic
gives the same model for every seed, and is measured once. Criteria by name show what choosing alone costs, nothing is
repaired; `repaired` is what `onnxprune prune --data` does.

    … --test digits.npz --test-names x=image,y=labels --calibrate digits.npz --calibrate-names x=image
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from oneshot.accuracy import Answers, Measured, TestSet
from oneshot.naming import named, read_names
from oneshot.ways import Bench, Pruned
from rich.console import Console
from rich.table import Table

from onnxprune.analyse import analyse
from onnxprune.coupling.coupling import Coupling
from onnxprune.errors import OnnxPruneError
from onnxprune.importance import criteria
from onnxprune.runtime.data import Data, open_data
from onnxprune.runtime.ort import RunOptions

Way = Callable[[float, int], Pruned]
REPAIRED = "repaired"


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
    parser.add_argument("--criteria", help="names, and `repaired`; all unless given")
    parser.add_argument(
        "--halves", action="store_true", help="calibrate on one half of --test, test on the other; both"
    )
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
    for criterion in given.criteria.split(",") if given.criteria else [*sorted(criteria()), REPAIRED]:
        if criterion == REPAIRED:
            yield criterion, "measured", bench.repaired
            continue
        for ranking in given.rankings.split(","):
            yield criterion, ranking, lambda share, seed, c=criterion, r=ranking: bench.ours(c, r, share, seed)
    for name, way in () if given.no_peers else bench.peers():
        yield name, "", way


@dataclass(frozen=True)
class Fold:
    """Samples to test on, and the ways to prune, which see other samples."""

    ways: list[tuple[str, str, Way]]
    test: TestSet


def folds(given: argparse.Namespace, coupling: Coupling, options: RunOptions, folder: Path) -> list[Fold]:
    """One, or two that swap the halves of the test data."""
    view = coupling.view
    scope = given.scope.split(",") if given.scope else None
    test_path = named(given.test, view, read_names(given.test_names), folder / "test.npz")
    train_path = named(given.calibrate, view, read_names(given.calibrate_names), folder / "train.npz")

    def fold(calibration: Callable[[int], Data], test: Data) -> Fold:
        bench = Bench(coupling, calibration, options, given.round_to, scope, given.mask_input)
        return Fold(list(ways(bench, given)), TestSet.of(test))

    if not given.halves:
        return [
            fold(
                lambda seed: open_data(train_path, view, preprocess=given.preprocess, samples=given.samples, seed=seed),
                open_data(test_path, view, preprocess=given.preprocess, seed=None),
            )
        ]
    whole = open_data(test_path, view, preprocess=given.preprocess, seed=0)
    middle = (whole.samples or 0) // 2
    parts = (whole.part(0, middle), whole.part(middle))
    return [fold(lambda seed, mine=mine: mine, other) for mine, other in (parts, parts[::-1])]


def main() -> None:
    given = arguments()
    console = Console(width=120)
    options = RunOptions(threads=given.threads)
    coupling = analyse(given.model)
    with tempfile.TemporaryDirectory() as folder:
        parts = folds(given, coupling, options, Path(folder))
        started = time.perf_counter()
        dense = [Answers.of(coupling.view.model, part.test, options) for part in parts]
        every = Answers.joined(dense).hits
        console.print(
            f"{given.model.name}: dense {100 * every.mean():.2f} % of {len(every)} samples, measured in "
            f"{time.perf_counter() - started:.1f} s; calibration on at most {given.samples}, {given.seeds} seeds"
        )
        table = Table(
            "criterion",
            "ranking",
            "MACs kept",
            "top-1, %",
            "to dense, points",
            "error of outputs",
            "models",
            "prune, s",
        )
        refused: dict[str, str] = {}
        for share in map(float, given.macs.split(",")):
            for number, (name, ranking, _) in enumerate(parts[0].ways):
                try:
                    row = measured([part.ways[number][2] for part in parts], share, given.seeds, parts, dense, options)
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
    ways: Sequence[Way], share: float, seeds: int, parts: Sequence[Fold], dense: Sequence[Answers],
    options: RunOptions,
) -> tuple[str, ...]:  # fmt: skip
    """A row: the mean over seeds, models that are equal measured once."""
    known: dict[object, Answers] = {}
    runs, seconds, left = [], [], []
    for seed in range(seeds):
        of_seed = []
        for number, (way, part) in enumerate(zip(ways, parts, strict=True)):
            started = time.perf_counter()
            pruned = way(share, seed)
            seconds.append(time.perf_counter() - started)
            if (number, pruned.key) not in known:
                known[number, pruned.key] = Answers.of(pruned.model, part.test, options)
            of_seed.append(known[number, pruned.key])
            left.append(pruned.macs)
        runs.append(Answers.joined(of_seed))
    found = Measured.of(runs, Answers.joined(dense))
    return f"{np.mean(left):.3f}", *found.row(), str(len(known)), f"{np.mean(seconds):.1f}"


if __name__ == "__main__":
    main()
