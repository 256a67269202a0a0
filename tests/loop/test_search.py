"""Knobs, fronts, and searches over an engine that knows the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from onnxprune.errors import SettingError
from onnxprune.loop.candidate import Spec, Trial
from onnxprune.loop.knobs import Knob, read_knob
from onnxprune.loop.search import GENERATION, best_of, bisect, front_of, optimise, screened
from tests.support.extras import needs

MACS = "prune.max-macs"


class Known:
    """An engine whose candidates lose as much as they save beyond a share of 0.6, and pass up to a loss of 0."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def run(self, spec: Spec, candidates: Sequence[Mapping[str, str]]) -> list[Trial]:
        self.sizes.append(len(candidates))
        return [self._one(dict(values)) for values in candidates]

    def _one(self, values: dict[str, str]) -> Trial:
        share = float(values[MACS].rstrip("%")) / 100
        loss = max(0.0, 0.6 - share) + (0.1 if values.get("prune.criterion") == "bad" else 0.0)
        return Trial(values, "", 9 if loss else 0, loss, 1 - loss, {"macs": share})

    def close(self) -> None:
        """Nothing to end."""


@pytest.mark.parametrize(
    ("given", "knob"),
    [
        ("prune.max-macs=95%:20%", Knob(MACS, 95, 20, "%")),
        ("prune.pruning-ratio=0.1:0.9", Knob("prune.pruning-ratio", 0.1, 0.9)),
        ("prune.round-to=1:32", Knob("prune.round-to", 1, 32, whole=True)),
        ("prune.criterion=l2|wanda", Knob("prune.criterion", choices=("l2", "wanda"))),
    ],
)
def test_knobs(given: str, knob: Knob) -> None:
    assert read_knob(given) == knob


@pytest.mark.parametrize(
    "given", ["prune.max-macs", "max-macs=1:2", "a.b=l2", "a.b=1:1", "a.b=90%:0.2", "a.b=l2|l2", "a.b=|l2", "a.b="]
)
def test_bad_knobs(given: str) -> None:
    with pytest.raises(SettingError, match="--tune "):
        read_knob(given)


def test_values_as_they_are_spelled() -> None:
    assert read_knob("a.b=95%:20%").spell(57.123456789) == "57.1235%"
    assert read_knob("a.b=1:32").spell(7.6) == "8"


def test_bisection() -> None:
    trials = bisect(Spec("", ""), read_knob("prune.max-macs=100%:20%"), Known(), trials=8)
    assert [trial.values[MACS] for trial in trials] == [
        "100%", "20%", "60%", "40%", "50%", "55%", "57.5%", "58.75%",
    ]  # fmt: skip
    best = best_of(trials, "macs")
    assert best is not None
    assert best.values == {MACS: "60%"}


def test_bisection_ends_where_everything_or_nothing_passes() -> None:
    assert len(bisect(Spec("", ""), read_knob("prune.max-macs=100%:70%"), Known())) == 2
    with pytest.raises(SettingError, match="not even its mild end 50% passes"):
        bisect(Spec("", ""), read_knob("prune.max-macs=50%:20%"), Known())


def test_bisection_of_whole_numbers_ends_between_neighbours() -> None:
    trials = bisect(Spec("", ""), read_knob("prune.max-macs=63:57"), Known(), trials=20)
    assert [trial.values[MACS] for trial in trials] == ["63", "57", "60", "58", "59"]


def test_fronts() -> None:
    def trial(share: float, loss: float | None, code: int = 0) -> Trial:
        return Trial({}, "", code, loss, None, {"macs": share})

    a, b, c, d = trial(0.9, 0.0), trial(0.5, 0.1, 9), trial(0.6, 0.2), trial(0.7, 0.05)
    failed = Trial({}, "", 1, error="gone")
    assert front_of([a, b, c, d, failed, trial(0.1, None)], "macs") == [b, d, a]
    assert best_of([a, b, c, d, failed], "macs") is c
    assert best_of([b, failed], "macs") is None
    assert best_of([a], "latency") is None


def test_several_knobs(tmp_path: Path) -> None:
    needs("optuna")
    knobs = [read_knob("prune.max-macs=95%:20%"), read_knob("prune.criterion=good|bad")]
    engine = Known()
    trials = optimise(Spec("", str(tmp_path)), knobs, "macs", engine, trials=10, seed=3)
    assert engine.sizes == [GENERATION, GENERATION, 2]
    (tmp_path / "again").mkdir()
    again: list[Trial] = []
    halves = Known()
    for count in (4, 10):  # cut short, then gone on
        again = optimise(Spec("", str(tmp_path / "again")), knobs, "macs", halves, trials=count, seed=3)
    assert halves.sizes == [GENERATION, GENERATION, 2]
    assert [trial.values for trial in again] == [trial.values for trial in trials]
    assert front_of(again, "macs") == front_of(trials, "macs")


def test_few_combinations_are_all_tried_once(tmp_path: Path) -> None:
    needs("optuna")
    knobs = [read_knob("prune.max-macs=60:50"), read_knob("prune.criterion=good|bad")]
    engine = Known()
    few = optimise(Spec("", str(tmp_path)), knobs[:1], "macs", engine, trials=99)
    assert [trial.values[MACS] for trial in few] == [str(width) for width in range(60, 49, -1)]
    assert engine.sizes == [4, 4, 3]
    (tmp_path / "two").mkdir()
    two = Spec("", str(tmp_path / "two"))
    begun = optimise(two, knobs, "macs", engine, trials=21)  # one less than there are: as with any other range
    gone_on = optimise(two, knobs, "macs", engine, trials=60)
    assert gone_on[:21] == begun
    assert len({tuple(trial.values.values()) for trial in begun}) < 21  # where those are drawn twice,
    assert len({tuple(trial.values.values()) for trial in gone_on}) == 22  # all are tried for all that
    (tmp_path / "all").mkdir()
    whole = optimise(Spec("", str(tmp_path / "all")), knobs, "macs", engine, trials=22)
    expected = [
        {"prune.max-macs": str(width), "prune.criterion": how} for width in range(60, 49, -1) for how in ("good", "bad")
    ]
    assert [trial.values for trial in whole] == expected


class Told:
    """An engine that gives what it is told by candidate, and remembers the overrides under which each was run."""

    def __init__(self, told: Mapping[str, tuple[float | None, float]]) -> None:
        self.told = told
        self.ran: list[tuple[tuple[str, ...], list[str]]] = []

    def run(self, spec: Spec, candidates: Sequence[Mapping[str, str]]) -> list[Trial]:
        self.ran.append((spec.sets, [values["k"] for values in candidates]))
        return [self._one(dict(values)) for values in candidates]

    def _one(self, values: dict[str, str]) -> Trial:
        loss, share = self.told[values["k"]]
        return Trial(values, "", 0 if loss is not None else 2, loss, None, {"macs": share}, None if loss else "gone")

    def close(self) -> None:
        """Nothing to end."""


def test_candidates_that_others_beat_are_not_run_whole() -> None:
    engine = Told({"a": (0.1, 0.5), "b": (0.2, 0.6), "c": (0.3, 0.4), "d": (None, 0.3)})
    spec = Spec("", "", ("all=1",), ("validate.samples=9",))
    seen = [Trial({}, "", 0, 0.25, None, {"macs": 0.3})]
    found = screened(spec, [{"k": name} for name in "abcd"], "macs", engine, seen)
    assert engine.ran == [(("all=1", "validate.samples=9"), ["a", "b", "c", "d"]), (("all=1",), ["a"])]
    assert [trial.screened for trial in found] == [False, True, True, True]
    assert [trial.passed for trial in found] == [True, False, False, False]
    assert len(seen) == 5
    assert best_of(found, "macs") is found[0]
    assert front_of(found, "macs") == [found[0]]


def test_a_screened_search_goes_on(tmp_path: Path) -> None:
    needs("optuna")
    knobs = [read_knob("prune.max-macs=95%:20%"), read_knob("prune.criterion=good|bad")]
    once = optimise(Spec("", str(tmp_path), screen=("validate.samples=9",)), knobs, "macs", Known(), trials=12, seed=3)
    assert {trial.screened for trial in once} == {False, True}
    (tmp_path / "again").mkdir()
    spec = Spec("", str(tmp_path / "again"), screen=("validate.samples=9",))
    optimise(spec, knobs, "macs", Known(), trials=8, seed=3)
    assert optimise(spec, knobs, "macs", Known(), trials=12, seed=3) == once
