"""The fastest model within a drop that a validation split allows, and what it keeps on a split that nothing has seen.

    python tools/bench_search.py MODEL --judge LABELLED --train TRAIN --tune prune.max-latency=75%:54% \
        --max-drop 0.01 --set prune.drop-blocks=4 --recover epochs=8 optimiser=sgd lr=0.05

LABELLED (a .npz, or a zip of images) is divided into halves: one validates within the search, the other is untouched.
Pruning, repair and training take TRAIN; where that is left out, the validating half without its labels. Every candidate
is trained with the dense model as teacher, and validated and timed beside it on one thread.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np


def halves(source: Path, folder: Path) -> tuple[Path, Path]:
    """Two files with half of the samples each, drawn at random, always the same."""
    targets = folder / f"valid{source.suffix}", folder / f"test{source.suffix}"
    if source.suffix == ".npz":
        with np.load(source) as data:
            arrays = dict(data)
        order = np.random.default_rng(0).permutation(len(next(iter(arrays.values()))))
        for target, mine in zip(targets, np.array_split(order, 2), strict=True):
            np.savez(target, **{name: array[np.sort(mine)] for name, array in arrays.items()})
        return targets
    with zipfile.ZipFile(source) as archive:
        names = sorted(name for name in archive.namelist() if not name.endswith("/"))
        order = np.random.default_rng(0).permutation(len(names))
        for target, mine in zip(targets, np.array_split(order, 2), strict=True):
            with zipfile.ZipFile(target, "w") as part:
                for k in np.sort(mine).tolist():
                    part.writestr(names[k], archive.read(names[k]))
    return targets


def recipe(given: argparse.Namespace, valid: Path) -> str:
    """As YAML; JSON is that, too."""
    train = {"data": str(given.train.resolve() if given.train else valid)}
    how = {"preprocess": given.preprocess} if given.preprocess else {}
    taught = {} if given.train else {"loss": "none"}
    settings = dict(pair.split("=", 1) for pair in given.recover)
    steps = [
        {"prune": {**train, "samples": given.samples}},
        {
            "recover": {
                **train,
                **taught,
                "teacher": "$DENSE",
                **{k: json.loads(_quoted(v)) for k, v in settings.items()},
            }
        },
        *([{"quantize": {**train, "samples": given.samples, "target": "cpu"}}] if given.quantize else []),
        {"validate": {"data": str(valid), "metric": "top1", "max-drop": str(given.max_drop), "latency": True}},
    ]
    return json.dumps(
        {"model": str(given.model.resolve()), "defaults": {"threads": 1, **how}, "steps": steps}, indent=1
    )


def _quoted(value: str) -> str:
    try:
        json.loads(value)
    except ValueError:
        return json.dumps(value)
    return value


def onnxprune(*words: object) -> dict:
    command = [sys.executable, "-m", "onnxprune", *map(str, words), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=False)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--train", type=Path)
    parser.add_argument("--preprocess")
    parser.add_argument("--tune", action="append", default=[])
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--max-drop", type=float, default=0.01)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--quantize", action="store_true", help="in INT8 for this CPU, after training")
    parser.add_argument("--recover", nargs="*", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        valid, test = halves(given.judge, folder)
        (folder / "search.yaml").write_text(recipe(given, valid))
        began = time.perf_counter()
        knobs = [word for tune in given.tune for word in ("--tune", tune)]
        sets = [word for pair in given.set for word in ("--set", pair)]
        found = onnxprune(
            "search", folder / "search.yaml", *knobs, *sets, "--trials", given.trials, "--jobs", given.jobs
        )
        print(f"{time.perf_counter() - began:.0f} s", flush=True)
        for trial in found.get("trials", []):
            print(trial["values"], trial["shares"], f"worse by {trial['loss']}", trial["error"] or "", flush=True)
        if not found.get("best"):
            raise SystemExit(found.get("error") or "no candidate keeps to the limit")
        how = ["--preprocess", given.preprocess] if given.preprocess else []
        judged = onnxprune("validate", given.model, found["output"], "--data", test, *how, "--threads", 1, "--latency")
        worse, left = judged["difference"], judged["latency"]["ratio"]
        print(f"best: {found['best']['values']}")
        print(f"on the untouched half {judged['pruned']:.4f}, dense {judged['dense']:.4f}")
        print(f"worse by {worse['loss']:+.4f} ({worse['low']:+.4f} to {worse['high']:+.4f})")
        print(f"latency {left['median']:.1%} ({left['low']:.1%} to {left['high']:.1%})")


if __name__ == "__main__":
    main()
