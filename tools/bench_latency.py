"""Time as a budget: what `--max-latency` and `--max-macs` give, measured in turn with the dense model.

    python tools/bench_latency.py MODEL --threads 1
    python tools/bench_latency.py MODEL --test TEST --calibrate TRAIN --preprocess imagenet --criterion repaired

The plan for a share of the time is made as `onnxprune prune --max-latency` makes it. Beside it: the plan for that share
of the MACs, and the MACs plan that takes the same measured time as the first, found by bisection, whose accuracy is
what planning by time must reach. All that are compared are timed once more, in turn, in one run. `repaired` is what
`onnxprune prune --data` does: order by `obs`, shares by measured losses, weights re-fitted; it needs data, as some
criteria do. With --split one half of the test data calibrates, and the other one tests.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from oneshot.accuracy import Measured, TestSet, hits
from oneshot.naming import named, read_names
from rich.console import Console
from rich.table import Table

from onnxprune.analyse import analyse
from onnxprune.cli.reading import read_input_shapes
from onnxprune.cli.watch import Watch
from onnxprune.coupling.coupling import Coupling
from onnxprune.edit import carry
from onnxprune.graph.model import Model
from onnxprune.importance import score
from onnxprune.importance.registry import find
from onnxprune.importance.traits import traits_of
from onnxprune.plan import plan
from onnxprune.plan.curves import measured_losses
from onnxprune.plan.meeting import meet_latency
from onnxprune.plan.planner import choices_for
from onnxprune.plan.table import LatencyTable
from onnxprune.plan.timing import measure_table
from onnxprune.repair.refit import refit
from onnxprune.runtime.calibrate import POSITIONS, calibrate
from onnxprune.runtime.data import Data, open_data
from onnxprune.runtime.latency import Effort, Runner, clock_for, ratio, time_in_turn
from onnxprune.runtime.ort import RunOptions
from onnxprune.runtime.segments import feeds_of
from onnxprune.types import Budget, Plan

_BISECTIONS = 6
_HELD = 1 << 30  # bytes of samples that are kept in memory
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
    parser.add_argument("--test-names", help="ARRAY=INPUT,… for a .npz under other names; labels too")
    parser.add_argument("--calibrate-names", help="the same for the calibration data")
    parser.add_argument("--split", action="store_true")
    parser.add_argument("--preprocess", help="for images, as onnxprune's option")
    parser.add_argument("--mask-input")
    parser.add_argument("--scope")
    parser.add_argument("--samples", type=int, default=256)
    return parser.parse_args()


@dataclass
class Way:
    """How units are scored and chosen, and what is done to the weights that are left."""

    coupling: Coupling
    given: argparse.Namespace
    options: RunOptions
    data: Data | None

    def __post_init__(self) -> None:
        given = self.given
        self.repairs = given.criterion == "repaired"
        criterion = "obs" if self.repairs else given.criterion
        kinds = traits_of(find(criterion)).needs
        measured = {}
        if kinds:
            if self.data is None:
                raise SystemExit(f"{given.criterion} needs samples: give --calibrate")
            how = {"mask": given.mask_input, "options": self.options}
            measured = {"statistics": calibrate(self.coupling, self.data, kinds, positions=POSITIONS, **how)}
        self._scores = score(self.coupling, criterion, data=measured)
        scope = tuple(given.scope.split(",")) if given.scope else None
        self._within: dict[str, Any] = {"round_to": given.round_to, "scope": scope}
        self._losses = None
        if self.repairs and self.data is not None:
            choices = choices_for(self.coupling, self._scores, Budget(max_macs=given.share), **self._within)
            self._losses = measured_losses(
                self.coupling, choices, self.data, mask=given.mask_input, options=self.options
            )

    def plan(self, budget: Budget, *, ranking: str = "local", latency: LatencyTable | None = None) -> Plan:
        """A plan under a budget; measured losses, where there are any, rank by what they are worth."""
        ranking = ranking if self._losses is None else "efficient"
        return plan(
            self.coupling, self._scores, budget, ranking=ranking, latency=latency, losses=self._losses, **self._within
        )

    def carried_out(self, chosen: Plan) -> Model:
        """The pruned model."""
        edited = carry(self.coupling, chosen)
        if not self.repairs or self.data is None:
            return edited.model
        mask = self.given.mask_input
        return refit(self.coupling, chosen, edited, self.data, mask=mask, options=self.options).edited.model


def read(coupling: Coupling, given: argparse.Namespace, folder: Path) -> tuple[Data | None, TestSet | None]:
    """Samples to calibrate on, and to test on."""
    view, how = coupling.view, {"preprocess": given.preprocess}
    if given.split:
        whole = open_data(
            named(given.test, view, read_names(given.test_names), folder / "test.npz"), view, seed=0, **how
        )
        half = (whole.samples or 0) // 2
        data: Data | None = whole.part(0, min(half, given.samples))
        tested: Data | None = whole.part(half)
    else:
        data = tested = None
        if given.calibrate is not None:
            path = named(given.calibrate, view, read_names(given.calibrate_names), folder / "calibrate.npz")
            data = open_data(path, view, samples=given.samples, seed=0, **how)
        if given.test is not None:
            path = named(given.test, view, read_names(given.test_names), folder / "test.npz")
            tested = open_data(path, view, seed=None, **how)
    if data is not None:
        data.hold(_HELD)
    return data, None if tested is None else TestSet.of(tested)


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
    with tempfile.TemporaryDirectory() as folder:
        data, test = read(coupling, given, Path(folder))
        compare(Way(coupling, given, options, data), test)


def compare(way: Way, test: TestSet | None) -> None:
    """Make the plans, time them in turn, and print the table."""
    given, coupling, options = way.given, way.coupling, way.options
    watch = Watch(coupling, options)

    def by_time(table: LatencyTable, aim: float) -> Plan:
        return way.plan(Budget(max_latency=aim), ranking="efficient", latency=table)

    def by_macs(share: float) -> Plan:
        return way.plan(Budget(max_macs=share))

    table = measure_table(coupling, options, round_to=given.round_to)
    met = meet_latency(by_time, table, watch.compare, given.share)
    plans = {
        f"--max-latency {given.share:.0%}": met.plan,
        f"--max-macs {given.share:.0%}": by_macs(given.share),
        "--max-macs, of equal time": of_equal_time(by_macs, watch, met.measured.share),
    }
    if not way.repairs:
        efficient = way.plan(Budget(max_macs=given.share), ranking="efficient")
        plans[f"--max-macs {given.share:.0%} --ranking efficient"] = efficient
    dense = coupling.view.model
    feeds = feeds_of(coupling, dense, 0)
    models = {"dense": dense, **{name: way.carried_out(made) for name, made in plans.items()}}
    runners = [Runner.of(model, feeds, options) for model in models.values()]
    timings = dict(zip(models, time_in_turn(runners, _EFFORT, clock_for(options)), strict=True))
    rows = Table("", "MACs", "parameters", "ms", "of dense", "95 %", "top-1, %", "to the plan by time, points")
    right = {} if test is None else {name: hits(model, test, options) for name, model in models.items()}
    by_time_name = next(iter(plans))
    for name in models:
        cost = coupling.cost() if name == "dense" else plans[name].after
        share = ratio(timings[name], timings["dense"])
        apart = "" if name == by_time_name or not right else difference(right[name], right[by_time_name])
        rows.add_row(
            name,
            f"{cost.macs / coupling.cost().macs:.3f}",
            f"{cost.parameters / coupling.cost().parameters:.3f}",
            f"{timings[name].median:.3f}",
            f"{share.median:.3f}",
            f"{share.low:.3f} to {share.high:.3f}",
            f"{100 * right[name].mean():.2f}" if right else "",
            apart,
        )
    console = Console(width=140)
    console.print(f"{given.model.name}, {given.criterion}, {clock_for(options)} clock, {given.threads} thread(s)")
    console.print(rows)


def difference(mine: np.ndarray, other: np.ndarray) -> str:
    """In points, with a paired 95 % interval."""
    result = Measured.of([mine], other)
    return f"{result.difference:+.2f} ± {result.interval:.2f}"


if __name__ == "__main__":
    main()
