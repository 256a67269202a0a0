"""Structured pruning, then 2:4, then INT8 on one model: accuracy, MACs and bytes after each step.

    python tools/bench_combined.py MODEL --test TEST --calibrate TRAIN --preprocess imagenet

Each step keeps what the former made: 2:4 is laid over the smaller model, and INT8 leaves its zeros. No labels are used
but for the final measurement. The files are written to --out if given.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from oneshot.accuracy import Measured, TestSet, hits
from oneshot.naming import named, read_names
from rich.console import Console
from rich.table import Table

from onnxprune.analyse import analyse
from onnxprune.edit.apply import apply
from onnxprune.graph.io import save
from onnxprune.graph.model import Model
from onnxprune.graph.view import GraphView
from onnxprune.importance import score
from onnxprune.importance.registry import find
from onnxprune.importance.traits import traits_of
from onnxprune.plan import plan
from onnxprune.runtime.calibrate import calibrate
from onnxprune.runtime.data import Data, open_data
from onnxprune.runtime.following import Following
from onnxprune.runtime.ort import RunOptions
from onnxprune.runtime.quantise import quantise
from onnxprune.runtime.statistics import KINDS
from onnxprune.sparsity.check import check
from onnxprune.sparsity.choosing import METHODS
from onnxprune.sparsity.layers import find_layers
from onnxprune.sparsity.masking import TWO_OF_FOUR
from onnxprune.sparsity.sequential import sparsify_layers
from onnxprune.sparsity.survival import surviving
from onnxprune.sparsity.wanted import Request, settle
from onnxprune.sparsity.weights import find_weights
from onnxprune.types import Budget


def smaller(model: Model, data: Data, share: float, criterion: str, mask: str | None) -> Model:
    """Pruned to a share of the MACs, kept channels a multiple of 4 so that 2:4 finds whole groups."""
    coupling = analyse(model)
    kinds = [kind for kind in KINDS if kind in traits_of(find(criterion)).needs]
    statistics = {"statistics": calibrate(coupling, data, kinds, mask=mask)} if kinds else {}
    chosen = plan(coupling, score(coupling, criterion, data=statistics), Budget(max_macs=share), round_to=4)
    return Model(apply(model, chosen, coupling).to_proto(external=True))


def sparse(model: Model, data: Data, mask: str | None, damping: float) -> Model:
    """2:4 by fit, first and last layers dense."""
    coupling = analyse(model)
    weights = find_weights(coupling.view)
    targets = settle(coupling.view, weights, Request(TWO_OF_FOUR, ends_dense=True)).targets
    found, _ = sparsify_layers(
        coupling, find_layers(coupling, weights), {t.weight.name: t for t in targets}, METHODS["fit"],
        Following(data, RunOptions(threads=1), 128, 0, mask), repair=True, damping=damping,
    )  # fmt: skip
    return Model(found.to_proto(external=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--calibrate", type=Path, required=True)
    parser.add_argument("--preprocess")
    parser.add_argument("--test-names")
    parser.add_argument("--calibrate-names")
    parser.add_argument("--mask-input")
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--macs", type=float, default=0.75)
    parser.add_argument("--criterion", default="wanda")
    parser.add_argument("--damping", type=float, default=0.001)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    dense = analyse(given.model)
    options = RunOptions(threads=1)
    table = Table("step", "top-1, %", "to dense, points", "MACs", "MB", "weights in 2:4", "s")
    with tempfile.TemporaryDirectory() as name:
        folder = given.out or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        names = read_names(given.calibrate_names)
        train = named(given.calibrate, dense.view, names, Path(name) / "train.npz")
        tested = named(given.test, dense.view, read_names(given.test_names), Path(name) / "test.npz")
        data = open_data(train, dense.view, preprocess=given.preprocess, samples=given.samples, seed=0)
        data.hold(1 << 30)
        test = TestSet.of(open_data(tested, dense.view, preprocess=given.preprocess, seed=None))
        steps = {
            "dense": lambda model: model,
            f"{given.macs:.0%} of the MACs": lambda m: smaller(m, data, given.macs, given.criterion, given.mask_input),
            "2:4": lambda model: sparse(model, data, given.mask_input, given.damping),
            "INT8": lambda model: quantise(model, data),
        }
        model, reference = dense.view.model, hits(dense.view.model, test, options)
        for step, change in steps.items():
            started = time.perf_counter()
            before, model = model, change(model)
            took = time.perf_counter() - started
            if step == "INT8":
                surviving(before, model)
            saved = save(model, folder / f"{len(table.rows)}.onnx")
            found = Measured.of([hits(model, test, options)], reference)
            view = GraphView(model)
            rows = [row for row in check(view, find_weights(view), TWO_OF_FOUR).rows if row.eligible]
            table.add_row(
                step, f"{found.accuracy:.2f}", f"{found.difference:+.2f} ± {found.interval:.2f}",
                f"{analyse(model).cost().macs / dense.cost().macs:.3f}", f"{saved.path.stat().st_size / 1e6:.2f}",
                f"{sum(row.compliant for row in rows)} of {len(rows)}", f"{took:.0f}",
            )  # fmt: skip
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
