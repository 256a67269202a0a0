"""Time as a budget: what `--max-latency` and `--max-macs` give, measured in turn with the dense model.

    python tools/bench_latency.py MODEL --threads 1
    python tools/bench_latency.py MODEL --test TEST --calibrate TRAIN --preprocess imagenet --criterion flap

The plan for a share of the time is made as `onnxprune prune --max-latency` makes it. Beside it: the plan for that share
of the MACs, and the MACs plan that takes the same measured time as the first, found by bisection, whose accuracy is
what planning by time must reach. All that are compared are timed once more, in turn, in one run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from oneshot.accuracy import TestSet, hits
from rich.console import Console
from rich.table import Table

from onnxprune.analyse import analyse
from onnxprune.cli.reading import read_input_shapes
from onnxprune.cli.watch import Watch
from onnxprune.coupling.coupling import Coupling
from onnxprune.edit import carry
from onnxprune.importance import Scores, score
from onnxprune.importance.registry import find
from onnxprune.importance.traits import traits_of
from onnxprune.plan import plan
from onnxprune.plan.meeting import meet_latency
from onnxprune.plan.timing import measure_table
from onnxprune.runtime.calibrate import calibrate
from onnxprune.runtime.data import open_data
from onnxprune.runtime.latency import Effort, Runner, clock_for, ratio, time_in_turn
from onnxprune.runtime.ort import RunOptions
from onnxprune.runtime.segments import feeds_of
from onnxprune.types import Budget, Plan

_BISECTIONS = 6
_EFFORT = Effort(rounds=100, seconds=120.0)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--criterion", default="l2")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--input-shapes", action="append")
    parser.add_argument("--round-to", type=int, default=8)
    parser.add_argument("--test", type=Path, help="samples with labels")
    parser.add_argument("--calibrate", type=Path, help="samples, whose labels are not looked at")
    parser.add_argument("--preprocess", help="for images, as onnxprune's option")
    parser.add_argument("--mask-input")
    parser.add_argument("--samples", type=int, default=256)
    return parser.parse_args()


def scored(coupling: Coupling, given: argparse.Namespace, options: RunOptions) -> Scores:
    kinds = traits_of(find(given.criterion)).needs
    if not kinds:
        return score(coupling, given.criterion)
    data = open_data(given.calibrate, coupling.view, preprocess=given.preprocess, samples=given.samples)
    statistics = calibrate(coupling, data, kinds, mask=given.mask_input, options=options)
    return score(coupling, given.criterion, data={"statistics": statistics})


def of_equal_time(make: Callable[[float], Plan], watch: Watch, share: float) -> Plan:
    """The MACs plan that takes the share of time, by bisection over the share of MACs."""
    low, high = 0.05, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if watch.compare(make(middle)).share > share:
            high = middle
        else:
            low = middle
    return make(low)


def main() -> None:
    given = arguments()
    options = RunOptions(threads=given.threads)
    coupling = analyse(given.model, input_shapes=read_input_shapes(given.input_shapes))
    scores = scored(coupling, given, options)
    watch = Watch(coupling, options)

    def by_time(table, aim: float) -> Plan:
        budget = Budget(max_latency=aim)
        return plan(coupling, scores, budget, ranking="efficient", round_to=given.round_to, latency=table)

    def by_macs(share: float) -> Plan:
        return plan(coupling, scores, Budget(max_macs=share), round_to=given.round_to)

    table = measure_table(coupling, options, round_to=given.round_to)
    met = meet_latency(by_time, table, watch.compare, given.share)
    plans = {
        f"--max-latency {given.share:.0%}": met.plan,
        f"--max-macs {given.share:.0%}": by_macs(given.share),
        f"--max-macs {given.share:.0%} --ranking efficient": plan(
            coupling, scores, Budget(max_macs=given.share), round_to=given.round_to, ranking="efficient"
        ),
        "--max-macs, of equal time": of_equal_time(by_macs, watch, met.measured.share),
    }
    test = None
    if given.test is not None:
        test = TestSet.of(open_data(given.test, coupling.view, preprocess=given.preprocess, seed=None))
    dense = coupling.view.model
    feeds = feeds_of(coupling, dense, 0)
    models = {"dense": dense, **{name: carry(coupling, made).model for name, made in plans.items()}}
    runners = [Runner.of(model, feeds, options) for model in models.values()]
    timings = dict(zip(models, time_in_turn(runners, _EFFORT, clock_for(options)), strict=True))
    rows = Table("", "MACs", "parameters", "ms", "of dense", "95 %", "top-1, %")
    for name, model in models.items():
        cost = coupling.cost() if name == "dense" else plans[name].after
        share = ratio(timings[name], timings["dense"])
        rows.add_row(
            name,
            f"{cost.macs / coupling.cost().macs:.3f}",
            f"{cost.parameters / coupling.cost().parameters:.3f}",
            f"{timings[name].median:.3f}",
            f"{share.median:.3f}",
            f"{share.low:.3f} to {share.high:.3f}",
            "" if test is None else f"{100 * hits(model, test, options).mean():.2f}",
        )
    console = Console(width=120)
    console.print(f"{given.model.name}, {given.criterion}, {clock_for(options)} clock, {given.threads} thread(s)")
    console.print(rows)


if __name__ == "__main__":
    main()
