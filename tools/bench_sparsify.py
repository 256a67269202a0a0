"""One-shot sparsity without labels or gradients: method x permutation -> top-1 accuracy, dense beside it.

    python tools/bench_sparsify.py MODEL --test TEST --calibrate TRAIN --preprocess imagenet
    python tools/bench_sparsify.py MODEL --test DATA --calibrate DATA --split --preprocess imagenet,labels=file

Labels are used for the final measurement alone. With --split one shuffled file is halved, and each half calibrates for
the test on the other: all samples are tested on, none by a model that has seen it. First and last layers stay dense.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from oneshot.accuracy import Answers, Measured, TestSet
from oneshot.naming import named, read_names
from rich.console import Console
from rich.table import Table

from onnxprune.analyse import analyse
from onnxprune.coupling.coupling import Coupling
from onnxprune.graph.model import Model
from onnxprune.graph.view import GraphView
from onnxprune.repair.together import fit_other_weights
from onnxprune.runtime.calibrate import calibrate
from onnxprune.runtime.data import Data, open_data
from onnxprune.runtime.following import Following
from onnxprune.runtime.ort import RunOptions
from onnxprune.sparsity.choosing import METHODS
from onnxprune.sparsity.layers import find_layers
from onnxprune.sparsity.masking import put_masked
from onnxprune.sparsity.norms import norms_of
from onnxprune.sparsity.patterns import parse_pattern
from onnxprune.sparsity.reorder import reorder
from onnxprune.sparsity.sequential import sparsify_layers
from onnxprune.sparsity.wanted import Request, settle
from onnxprune.sparsity.weights import find_weights

HELD = 1 << 30


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--test", type=Path, help="samples with labels; not with --split")
    parser.add_argument("--calibrate", type=Path, required=True, help="samples, whose labels are not looked at")
    parser.add_argument("--split", action="store_true")
    parser.add_argument("--preprocess", help="for images, as onnxprune's option")
    parser.add_argument("--test-names", help="ARRAY=INPUT,… for a .npz under other names; labels too")
    parser.add_argument("--calibrate-names", help="the same for the calibration data")
    parser.add_argument("--mask-input")
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--positions", type=int, default=128)
    parser.add_argument("--damping", type=float, help="of all layers; else what serves held-out samples")
    parser.add_argument("--pattern", default="2:4")
    parser.add_argument("--sparsity", type=float)
    parser.add_argument("--allocation", default="uniform")
    parser.add_argument(
        "--ways",
        default=",".join(METHODS),
        help="methods; +repair, +together or +permute behind a name",
    )
    parser.add_argument("--permute-seconds", type=float, default=60)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


@dataclass
class Fold:
    """Samples to calibrate and to test on, what the dense model says, and by permutation or not: model and seconds."""

    data: Data
    test: TestSet
    dense: Answers
    orders: dict[bool, tuple[Coupling, float]]


def read(given: argparse.Namespace, coupling: Coupling, folder: Path, options: RunOptions) -> list[Fold]:
    """One fold, or with --split two."""
    view = coupling.view
    train = named(given.calibrate, view, read_names(given.calibrate_names), folder / "train.npz")
    if given.split:
        whole = open_data(train, view, preprocess=given.preprocess, seed=0)
        half = (whole.samples or 0) // 2
        first, second = whole.part(0, min(half, given.samples)), whole.part(half, half + min(half, given.samples))
        pairs = [(first, whole.part(half)), (second, whole.part(0, half))]
    else:
        path = named(given.test, view, read_names(given.test_names), folder / "test.npz")
        data = open_data(train, view, preprocess=given.preprocess, samples=given.samples, seed=0)
        pairs = [(data, open_data(path, view, preprocess=given.preprocess, seed=None))]
    found = []
    for data, tested in pairs:
        data.hold(HELD)
        test = TestSet.of(tested)
        found.append(Fold(data, test, Answers.of(view.model, test, options), {False: (coupling, 0.0)}))
    return found


def permuted(coupling: Coupling, request: Request, data: Data, given: argparse.Namespace) -> Coupling:
    """The model in the order in which 2:4 keeps most of the weights times what they meet."""
    weights = find_weights(coupling.view)
    options = RunOptions(threads=given.threads)
    statistics = calibrate(coupling, data, ["second"], every=True, mask=given.mask_input, options=options)
    targets = settle(coupling.view, weights, request).targets
    found = reorder(coupling, targets, seconds=given.permute_seconds, norms=norms_of(statistics, weights))
    return analyse(Model(found.model.to_proto(external=True)), **coupling.options)


def made(coupling: Coupling, request: Request, way: str, data: Data, given: argparse.Namespace) -> Model:
    """The sparse model by a method, repaired if the way says so."""
    method, *more = way.split("+")
    weights = find_weights(coupling.view)
    wanted = settle(coupling.view, weights, request)
    repair = METHODS[method].aims or "repair" in more
    if not METHODS[method].needs and not repair:
        model = coupling.view.model.copy()
        for target in wanted.targets:
            put_masked(GraphView(model, coupling.view), coupling.view.model, coupling.view, target)
        return model
    how = Following(data, RunOptions(threads=given.threads), given.positions, 0, given.mask_input)
    model, _ = sparsify_layers(
        coupling, find_layers(coupling, weights), {t.weight.name: t for t in wanted.targets}, METHODS[method], how,
        repair=repair, damping=given.damping,
    )  # fmt: skip
    if repair and "together" in more:
        zeros = {leaf for target in wanted.targets for leaf in target.weight.leaves}
        fit_other_weights(coupling, model, data, zeros, mask=given.mask_input, options=how.options)
    return model


def main() -> None:
    given = arguments()
    request = Request(parse_pattern(given.pattern), given.sparsity, given.allocation, ends_dense=True)
    options = RunOptions(threads=given.threads)
    coupling = analyse(given.model)
    table = Table("way", "top-1, %", "to dense, points", "error of outputs", "seconds", "of these permutation")
    with tempfile.TemporaryDirectory() as folder:
        folds = read(given, coupling, Path(folder), options)
        dense = Answers.joined([fold.dense for fold in folds])
        for way in given.ways.split(","):
            moved = "permute" in way.split("+")
            found, took, searched = [], 0.0, 0.0
            for fold in folds:
                if moved not in fold.orders:
                    started = time.process_time()
                    order = permuted(coupling, request, fold.data, given)
                    fold.orders[moved] = order, time.process_time() - started
                mine, before = fold.orders[moved]
                started = time.process_time()
                model = made(mine, request, way, fold.data, given)
                took, searched = took + time.process_time() - started + before, searched + before
                found.append(Answers.of(model, fold.test, options))
            row = [way, *Measured.of([Answers.joined(found)], dense).row()]
            row += [f"{took / len(folds):.0f}", f"{searched / len(folds):.0f}"]
            table.add_row(*row)
            print(*row, file=sys.stderr, flush=True)
    console = Console(width=120)
    console.print(
        f"{given.model.name}, {given.pattern} {given.sparsity or ''}: dense {100 * dense.hits.mean():.2f} % of "
        f"{len(dense.hits)} samples; calibrated on {folds[0].data.samples}; seconds are the processor's, of one fold"
    )
    console.print(table)


if __name__ == "__main__":
    main()
