"""Kill a run over and over, and see that it always ends with the same figures and never leaves half a file.

    python tools/torture_run.py [--kills 200] [--recipe RECIPE]

Each kill is a SIGKILL at a random moment of a run of the quickstart's recipe; runs are started again until one ends by
itself. After each kill every file under its final name must be whole: JSON that parses, models that load. Prints how
many kills hit which step, and fails where figures differ from those of an undisturbed run.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import onnx

SAMPLE = Path(__file__).resolve().parent.parent / "samples" / "01_quickstart"
RECIPE = f"""\
model: {SAMPLE / "digits.onnx"}
defaults: {{threads: 1}}
steps:
  - prune: {{max-macs: 90%, ranking: global, scope: channels, criterion: wanda, data: {SAMPLE / "digits_calib.npz"}}}
  - validate: {{data: {SAMPLE / "digits_test.npz"}, metric: top1}}
  - iterate:
      times: 2
      steps:
        - prune: {{max-macs: 95%}}
        - validate: {{data: {SAMPLE / "digits_test.npz"}, max-drop: 0.05}}
"""


def command(recipe: Path, folder: Path) -> list[str]:
    """The run's command line."""
    return [sys.executable, "-m", "onnxprune", "run", str(recipe), "--folder", str(folder), "-q"]


def figures(folder: Path) -> list[tuple[str, object, object]]:
    """Per step its name, code and metric."""
    steps = json.loads((folder / "result.json").read_text())["steps"]
    return [(step["name"], step["code"], step["found"].get("pruned")) for step in steps]


def check_whole(folder: Path) -> None:
    """Every file under its final name parses; what is hidden is unfinished and may be anything."""
    for path in folder.rglob("*"):
        if any(part.startswith(".") for part in path.relative_to(folder).parts) or not path.is_file():
            continue
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".onnx":
            onnx.checker.check_model(onnx.load(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--recipe", type=Path, help="another recipe than the quickstart's")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as temporary:
        recipe = args.recipe or Path(temporary, "recipe.yaml")
        if args.recipe is None:
            recipe.write_text(RECIPE)
        whole, tortured = Path(temporary, "whole"), Path(temporary, "tortured")
        began = time.perf_counter()
        subprocess.run(command(recipe, whole), check=True)
        seconds = time.perf_counter() - began
        expected = figures(whole)
        hits: Counter[str] = Counter()
        ends = kills = 0
        while kills < args.kills:
            with subprocess.Popen(command(recipe, tortured)) as process:
                try:
                    code = process.wait(rng.uniform(0.05, 1.1) * seconds)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    kills += 1
                    working = [path.name.split(".attempt")[0] for path in tortured.glob(".*.attempt")]
                    hits[working[0].rpartition(".")[0].lstrip(".") if working else "between steps"] += 1
                    check_whole(tortured)
                    continue
            if code != 0 or figures(tortured) != expected:
                raise SystemExit(f"after {kills} kills: exit code {code}, {figures(tortured)}, expected {expected}")
            check_whole(tortured)
            ends += 1
            shutil.rmtree(tortured)
    print(f"{kills} kills of a run of {seconds:.1f} s, {ends} runs ended, all with the figures of an undisturbed one")
    for name, count in sorted(hits.items()):
        print(f"  {count:4d} during {name}")


if __name__ == "__main__":
    main()
