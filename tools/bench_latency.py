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
from typing import Any, Protocol

from oneshot.accuracy import Answers, Measured, TestSet
from oneshot.naming import named, read_names
from oneshot.repairing import Repairing
from rich.console import Console
from rich.table import Table

from onnxprune.analyse import analyse
from onnxprune.cli.reading import read_input_shapes
from onnxprune.cli.watch import Watch
from onnxprune.coupling.coupling import Coupling
from onnxprune.edit import carry
from onnxprune.graph.model import Model
from onnxprune.importance import Scores, score
from onnxprune.importance.registry import find
from onnxprune.importance.traits import traits_of
from onnxprune.plan import plan
from onnxprune.plan.meeting import meet_latency
from onnxprune.plan.table import LatencyTable
from onnxprune.plan.timing import measure_table
from onnxprune.runtime.calibrate import POSITIONS, calibrate
from onnxprune.runtime.data import Data, open_data
from onnxprune.runtime.latency import Effort, Runner, clock_for, ratio, time_in_turn
from onnxprune.runtime.ort import RunOptions
from onnxprune.runtime.segments import feeds_of
from onnxprune.types import Budget, Plan

REPAIRED = "repaired"  # as a criterion
_BISECTIONS = 8
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


class Way(Protocol):
    """How units are chosen under a budget, and what is done to the weights that are left."""

    def plan(self, budget: Budget, latency: LatencyTable | None = None) -> Plan:
        """A plan under a budget."""

    def carried_out(self, chosen: Plan) -> Model:
        """The pruned model."""


@dataclass
class ByScore:
    """Units by scores, and no weight is adjusted; `ranking` holds without a latency table."""

    coupling: Coupling
    scores: Scores
    within: dict[str, Any]
    ranking: str = "local"

    def plan(self, budget: Budget, latency: LatencyTable | None = None) -> Plan:
        """See Way."""
        ranking = self.ranking if latency is None else "efficient"
        return plan(self.coupling, self.scores, budget, ranking=ranking, latency=latency, **self.within)

    def carried_out(self, chosen: Plan) -> Model:
        """See Way."""
        return carry(self.coupling, chosen).model


def ways(coupling: Coupling, given: argparse.Namespace, options: RunOptions, data: Data | None) -> list[Way]:
    """The one that is asked for; where nothing is repaired, also by another ranking."""
    scope = tuple(given.scope.split(",")) if given.scope else None
    repairs = given.criterion == REPAIRED
    needs = () if repairs else traits_of(find(given.criterion)).needs
    measured = {}
    if repairs or needs:
        if data is None:
            raise SystemExit(f"{given.criterion} needs samples: give --calibrate")
        if repairs:
            return [Repairing(coupling, data, options, given.round_to, scope, given.mask_input)]
        how = {"mask": given.mask_input, "options": options}
        measured = {"statistics": calibrate(coupling, data, needs, positions=POSITIONS, **how)}
    scores = score(coupling, given.criterion, data=measured)
    within = {"round_to": given.round_to, "scope": scope}
    return [ByScore(coupling, scores, within, ranking) for ranking in ("local", "efficient")]


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
        compare(coupling, given, options, ways(coupling, given, options, data), test)


def compare(
    coupling: Coupling, given: argparse.Namespace, options: RunOptions, found: list[Way], test: TestSet | None
) -> None:
    """Make the plans, time them in turn, and print the table."""
    watch = Watch(coupling, options)
    way, *others = found

    def by_macs(share: float) -> Plan:
        return way.plan(Budget(max_macs=share))

    table = measure_table(coupling, options, round_to=given.round_to)
    met = meet_latency(
        lambda table, aim: way.plan(Budget(max_latency=aim), latency=table), table, watch.compare, given.share
    )
    plans = {
        f"--max-latency {given.share:.0%}": met.plan,
        f"--max-macs {given.share:.0%}": by_macs(given.share),
        "--max-macs, of equal time": of_equal_time(by_macs, watch, met.measured.share),
    }
    for other in others:
        plans[f"--max-macs {given.share:.0%} --ranking efficient"] = other.plan(Budget(max_macs=given.share))
    dense = coupling.view.model
    feeds = feeds_of(coupling, dense, 0)
    models = {"dense": dense, **{name: way.carried_out(made) for name, made in plans.items()}}
    runners = [Runner.of(model, feeds, options) for model in models.values()]
    timings = dict(zip(models, time_in_turn(runners, _EFFORT, clock_for(options)), strict=True))
    rows = Table(
        "",
        "MACs",
        "parameters",
        "ms",
        "of dense",
        "95 %",
        "top-1, %",
        "to the plan by time, points",
        "error of outputs",
    )
    said = {} if test is None else {name: Answers.of(model, test, options) for name, model in models.items()}
    by_time_name = next(iter(plans))
    for name in models:
        cost = coupling.cost() if name == "dense" else plans[name].after
        share = ratio(timings[name], timings["dense"])
        judged = judgement(said, name, by_time_name) if said else ("", "", "")
        rows.add_row(
            name,
            f"{cost.macs / coupling.cost().macs:.3f}",
            f"{cost.parameters / coupling.cost().parameters:.3f}",
            f"{timings[name].median:.3f}",
            f"{share.median:.3f}",
            f"{share.low:.3f} to {share.high:.3f}",
            *judged,
        )
    console = Console(width=140)
    console.print(f"{given.model.name}, {given.criterion}, {clock_for(options)} clock, {given.threads} thread(s)")
    console.print(rows)


def judgement(said: dict[str, Answers], name: str, by_time: str) -> tuple[str, str, str]:
    """Accuracy, its difference to that of the plan by time, and the error of the outputs, from the dense model's."""
    accuracy, apart, _ = Measured.of([said[name]], said[by_time]).row()
    return accuracy, "" if name == by_time else apart, f"{said[name].error(said['dense']):.4f}"


if __name__ == "__main__":
    main()
