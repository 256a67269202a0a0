"""Optimises a folder of models with ONNX Runtime's own optimisers, as files to prune and test.

    python tools/optimise_zoo.py build/zoo --out build/zoo_opt --only 'bert*' --kinds basic extended

Kinds: `basic` and `extended` (the session's graph optimiser at these levels), `attention` and `mha` (the transformer
optimiser, for files that it has a kind for: with fused Attention, or with MultiHeadAttention). Every file is
optimised in a process of its own under a time limit, small files first. What exists is skipped, so that a run which was
stopped goes on where it was; failures are written to failures.json and tried again with --again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from zoo.optimise import KINDS, LEVELS, model_type
from zoo.picking import add_options, picked
from zoo.store import JsonStore


def optimise(path: Path, out: Path, kinds: list[str], timeout: float) -> dict[str, str]:
    """The outcome by kind: "written", or what went wrong."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "zoo.optimise", str(path), str(out), *kinds]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return dict.fromkeys(kinds, f"no result within {timeout:.0f} s")
    lines = done.stdout.strip().splitlines()
    why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:400]
    outcome: dict[str, str] = json.loads(lines[-1]) if lines and done.returncode == 0 else {}
    return {kind: outcome.get(kind, why) for kind in kinds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder of .onnx files, e.g. what make_zoo.py wrote")
    parser.add_argument("--out", type=Path, default=Path("build/zoo_opt"))
    add_options(parser)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for one file, all its kinds")
    parser.add_argument("--again", action="store_true", help="try what failed before once more")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    failures = JsonStore(given.out / "failures.json")
    for path in sorted(picked(given.folder, given), key=lambda file: file.stat().st_size):
        names = {kind: f"{path.name.removesuffix('.onnx')}.{kind}.onnx" for kind in given.kinds}
        kinds = [
            kind for kind, name in names.items()
            if (kind in LEVELS or model_type(path) is not None) and not (given.out / name).exists()
            and (given.again or name not in failures)
        ]  # fmt: skip
        if not kinds:
            continue
        started = time.monotonic()
        outcome = optimise(path, given.out, kinds, given.timeout)
        for kind, said in outcome.items():
            failures.drop(names[kind]) if said == "written" else failures.put(names[kind], said)
        failed = [f"{kind}: {said}" for kind, said in outcome.items() if said != "written"]
        print(f"{path.name:44} {time.monotonic() - started:6.1f} s  {'; '.join(failed) or 'written'}"[:200], flush=True)
    written = len(list(given.out.glob("*.onnx")))
    print(f"{written} files in {given.out}, {len(failures.entries())} failures (failures.json)")


if __name__ == "__main__":
    main()
