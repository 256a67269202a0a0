"""Structured pruning, then 2:4, then INT8 on one model, by one recipe: accuracy, MACs and bytes after each step.

    python tools/bench_combined.py MODEL --test TEST --calibrate TRAIN --preprocess imagenet

Writes the recipe (to --out, if given, with the run's folder), has `onnxprune run` take its steps, and puts what they
found into a table. Each step keeps what the former made: 2:4 is laid over the smaller model, INT8 leaves its zeros. No
labels are used but by `validate`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from oneshot.naming import named, read_names
from rich.console import Console
from rich.table import Table

from onnxprune.graph.io import load
from onnxprune.graph.view import GraphView
from onnxprune.sparsity.check import check
from onnxprune.sparsity.masking import TWO_OF_FOUR
from onnxprune.sparsity.weights import find_weights


def recipe_of(given: argparse.Namespace, train: Path, test: Path) -> dict[str, Any]:
    """The steps, each followed by a validation."""
    steps: list[dict[str, Any]] = [
        {"prune": {"max-macs": f"{given.macs:.0%}"}},
        {"sparsify": {"method": "fit", "dense-ends": True}},
        {"quantize": {}},
    ]
    if given.permute_seconds:
        steps[1]["sparsify"] |= {"permute": True, "permute-seconds": given.permute_seconds}
    for step in steps:
        for settings in step.values():
            settings |= {"data": str(train.resolve()), "samples": given.samples}
            if given.mask_input and "quantize" not in step:
                settings["mask-input"] = given.mask_input
    judged: list[dict[str, Any]] = []
    for step in steps:
        judged += [step, {"validate": {"data": str(test.resolve()), "metric": "top1"}}]
    defaults: dict[str, Any] = {"threads": 1, "seed": 0}
    if given.preprocess:
        defaults["preprocess"] = given.preprocess
    return {"schema": 1, "model": str(given.model.resolve()), "defaults": defaults, "steps": judged}


def taken(recipe: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Have the recipe's steps taken, and give what each found, in order."""
    path = folder / "combined.yaml"
    path.write_text(json.dumps(recipe, indent=2))  # JSON is YAML
    ran = subprocess.run(
        [sys.executable, "-m", "onnxprune", "run", str(path), "--json"], stdout=subprocess.PIPE, text=True, check=True
    )
    found: list[dict[str, Any]] = json.loads(ran.stdout)["steps"]
    return found


def compliant(path: Path) -> str:
    """How many of the eligible weights follow 2:4."""
    view = GraphView(load(path))
    rows = [row for row in check(view, find_weights(view), TWO_OF_FOUR).rows if row.eligible]
    return f"{sum(row.compliant for row in rows)} of {len(rows)}"


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
    parser.add_argument("--permute-seconds", type=float, default=20)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    view = GraphView(load(given.model))
    table = Table("step", "top-1, %", "to dense, points", "MACs", "MB", "weights in 2:4", "s")
    with tempfile.TemporaryDirectory() as name:
        folder = given.out or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        train = named(given.calibrate, view, read_names(given.calibrate_names), folder / "train.npz")
        test = named(given.test, view, read_names(given.test_names), folder / "test.npz")
        macs, size = 1.0, given.model.stat().st_size / 1e6
        steps = taken(recipe_of(given, train, test), folder)
        dense = steps[1]["found"]["dense"]
        table.add_row("dense", f"{100 * dense:.2f}", "", "1.000", f"{size:.2f}", compliant(given.model), "")
        for made, judged in zip(steps[::2], steps[1::2], strict=True):
            found = made["found"]
            if "before" in found and "macs" in found["before"]:
                macs = found["after"]["macs"] / found["before"]["macs"]
            model = folder / "combined.run" / made["name"] / "model.onnx"
            table.add_row(
                made["name"], f"{100 * judged['found']['pruned']:.2f}",
                f"{100 * (judged['found']['pruned'] - dense):+.2f}", f"{macs:.3f}",
                f"{model.stat().st_size / 1e6:.2f}", compliant(model), f"{made['seconds']:.0f}",
            )  # fmt: skip
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
