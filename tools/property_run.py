"""Try many random graphs with random plans, and keep what fails.

    python tools/property_run.py --cases 20000 --jobs 2
    python tools/property_run.py --seed 4711 --cases 1      # one of them again

Case number i is made from seed S + i alone, whatever the number of jobs. What is checked is in
tests/property/properties.py. A failure is printed with its seed, and its model saved as SEED.onnx beside SEED.txt, the
traceback. The exit code is 1 if there was any.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and ONNX Runtime are loaded
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the tests are no installed package

import onnx

from tests.property.graphs import random_model
from tests.property.properties import check_model


@dataclass(frozen=True)
class Outcome:
    seed: int
    nodes: int
    error: str = ""


def try_seed(seed: int, folder: Path) -> Outcome:
    """One case; any exception is a failure."""
    rng = random.Random(seed)
    model = random_model(rng)
    try:
        check_model(model, rng)
    except Exception as error:  # noqa: BLE001 - a crash of whatever kind is what this looks for
        folder.mkdir(parents=True, exist_ok=True)
        onnx.save(model, folder / f"{seed}.onnx")
        (folder / f"{seed}.txt").write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        return Outcome(seed, len(model.graph.node), f"{type(error).__name__}: {error}")
    return Outcome(seed, len(model.graph.node))


def try_all(seeds: Iterable[int], folder: Path, jobs: int) -> Iterator[Outcome]:
    """Every seed, in processes. One that kills its process is found by trying what was under way one by one."""
    waiting = iter(seeds)
    while True:
        died: list[int] = []
        with ProcessPoolExecutor(jobs) as pool:
            running: dict[Future[Outcome], int] = {}
            while not died:
                while len(running) < 2 * jobs and (seed := next(waiting, None)) is not None:
                    running[pool.submit(try_seed, seed, folder)] = seed
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    seed = running.pop(future)
                    if isinstance(future.exception(), BrokenProcessPool):
                        died += [seed, *running.values()]
                        break
                    yield future.result()
        for seed in died:
            yield try_alone(seed, folder)


def try_alone(seed: int, folder: Path) -> Outcome:
    with ProcessPoolExecutor(1) as pool:
        try:
            return pool.submit(try_seed, seed, folder).result()
        except BrokenProcessPool:
            folder.mkdir(parents=True, exist_ok=True)
            onnx.save(random_model(random.Random(seed)), folder / f"{seed}.onnx")
            return Outcome(seed, 0, "the process died")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000, help="how many (default 1000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first; the others follow it (default 0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--out", type=Path, default=Path("property_failures"), help="where failing models are put")
    given = parser.parse_args()
    started, failed, nodes = time.monotonic(), Counter[str](), 0
    seeds = range(given.seed, given.seed + given.cases)
    for done, outcome in enumerate(try_all(seeds, given.out, given.jobs), start=1):
        nodes += outcome.nodes
        if outcome.error:
            failed[outcome.error.splitlines()[0][:60]] += 1
            print(f"seed {outcome.seed}: {outcome.error}", flush=True)
        if done % 500 == 0:
            pace = (time.monotonic() - started) / done
            print(f"{done} of {given.cases}, {failed.total()} failed, {pace:.2f} s each", file=sys.stderr, flush=True)
    print(f"{given.cases} cases of {nodes / max(given.cases, 1):.0f} nodes on average, {failed.total()} failed")
    for error, count in failed.most_common():
        print(f"{count:6d}  {error}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
