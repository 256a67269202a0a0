"""Quantises a folder of float models with ONNX Runtime's own quantiser, as files to prune and test.

    python tools/quantise_zoo.py build/zoo --out build/zoo_int8 --only 'resnet*' --kinds qdq qop

Kinds: `qdq` (QuantizeLinear and DequantizeLinear, int8 weights by channel), `qdq_tensor` (one scale a tensor),
`qop` (QLinear operators, by channel), `dynamic` (by channel) and `blocks` (4-bit MatMulNBits). Every file is quantised
in a process of its own under a time limit, small files first. What exists is skipped, so that a run which was stopped
goes on where it was; failures are written to failures.json and tried again with --again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from zoo.picking import add_options, picked
from zoo.store import JsonStore

KINDS = ("qdq", "qdq_tensor", "qop", "dynamic", "blocks")


def quantise(path: Path, out: Path, kinds: list[str], timeout: float) -> dict[str, str]:
    """The outcome by kind: "written", or what went wrong."""
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent), "OMP_NUM_THREADS": threads}
    command = [sys.executable, "-m", "zoo.quantise", str(path.resolve()), str(out.resolve()), *kinds]
    # the quantiser leaves a data file where it stands if it is killed
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        try:
            said, complained = process.communicate(timeout=timeout)
            code = process.returncode
            said_last = complained.strip().splitlines()
            why = said_last[-1][:400] if said_last and code > 0 else f"exit code {code}"
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
            why = f"no result within {timeout:.0f} s"
    lines = said.strip().splitlines()
    outcome: dict[str, str] = json.loads(lines[-1]) if lines else {}
    return {kind: outcome.get(kind, why) for kind in kinds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder of .onnx files, e.g. what make_zoo.py wrote")
    parser.add_argument("--out", type=Path, default=Path("build/zoo_int8"))
    add_options(parser)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--jobs", type=int, default=1, help="files at a time")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for one file, all its kinds")
    parser.add_argument("--again", action="store_true", help="try what failed before once more")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    failures = JsonStore(options.out / "failures.json")
    files = sorted(picked(options.folder, options), key=lambda path: path.stat().st_size)

    def missing(path: Path) -> list[str]:
        names = {kind: f"{path.name.removesuffix('.onnx')}.{kind}.onnx" for kind in options.kinds}
        return [k for k, n in names.items() if not (options.out / n).exists() and (options.again or n not in failures)]

    def work(path: Path) -> None:
        kinds = missing(path)
        if not kinds:
            return
        started = time.monotonic()
        outcome = quantise(path, options.out, kinds, options.timeout)
        for kind, said in outcome.items():
            name = f"{path.name.removesuffix('.onnx')}.{kind}.onnx"
            failures.drop(name) if said == "written" else failures.put(name, said)
        failed = [f"{kind}: {said}" for kind, said in outcome.items() if said != "written"]
        print(f"{path.name:44} {time.monotonic() - started:6.1f} s  {'; '.join(failed) or 'written'}"[:200], flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        for pending in [pool.submit(work, path) for path in files]:
            pending.result()
    written = len(list(options.out.glob("*.onnx")))
    print(f"{written} files in {options.out}, {len(failures.entries())} failures (failures.json)")


if __name__ == "__main__":
    main()
