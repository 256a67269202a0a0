"""Latency tables: measured, written and read, fitted; plans by them; never how fast this machine is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from onnxprune.analyse import analyse
from onnxprune.coupling.coupling import Coupling
from onnxprune.errors import BudgetError, SettingError
from onnxprune.importance import Scores
from onnxprune.plan import plan
from onnxprune.plan.meeting import Comparison, meet_latency
from onnxprune.plan.predicting import Predictor, lengths_by_group
from onnxprune.plan.table import LatencyTable, Sample, check_table, load_table, save_table, table_to_json
from onnxprune.plan.timing import WIDTHS, measure_table
from onnxprune.runtime.latency import Effort
from onnxprune.runtime.ort import RunOptions
from onnxprune.runtime.segments import find_cuts
from onnxprune.types import Budget, Plan
from tests.support.planning import conv_chain

SIZES = (64, 32)


@pytest.fixture(scope="module")
def coupling() -> Coupling:
    """3 -> 64 -> 32 -> 5, cut after the last hidden layer."""
    return analyse(conv_chain(SIZES))


def truth(kept: tuple[int, ...]) -> tuple[float, float]:
    """Milliseconds of the two segments: a constant, MACs and elements, in a made-up machine."""
    a, b = kept
    return 0.5 + 0.002 * a * b + 0.01 * a, 0.1 + 0.004 * b


def table_of(coupling: Coupling, overhead: float = 1.0, widths: int = 8) -> LatencyTable:
    rng = np.random.default_rng(0)
    kepts = [SIZES, *(tuple(int(rng.integers(1, s + 1)) for s in SIZES) for _ in range(widths - 1))]
    samples = tuple(Sample(k, overhead * sum(truth(k)), truth(k)) for k in kepts)
    groups = {g.name: g.size for g in coupling.groups}
    cuts = find_cuts(coupling).after
    assert len(cuts) == 1
    return LatencyTable(coupling.view.model.digest, {"processor": "made up"}, groups, cuts, samples)


def even(coupling: Coupling) -> Scores:
    return Scores(tuple(np.linspace(1, 2, g.size) for g in coupling.groups), "given")


class TestPrediction:
    @pytest.mark.parametrize("overhead", [1.0, 1.3])
    def test_what_segments_take_is_found_again(self, coupling: Coupling, overhead: float) -> None:
        predict = Predictor(coupling, table_of(coupling, overhead))
        lengths = lengths_by_group(coupling)
        for kept in ((64, 32), (48, 8), (16, 24), (8, 8)):
            found = predict(coupling.footprint, lengths(kept))
            assert found == pytest.approx(overhead * sum(truth(kept)), rel=0.01)

    def test_a_correction_counts_for_models_of_about_its_time(self, coupling: Coupling) -> None:
        table = table_of(coupling).corrected((32, 16), 1.2 * sum(truth((32, 16))))
        predict, lengths = Predictor(coupling, table), lengths_by_group(coupling)
        near, far = predict(coupling.footprint, lengths((32, 16))), predict(coupling.footprint, lengths((64, 32)))
        assert near > 1.1 * sum(truth((32, 16)))
        assert far == pytest.approx(sum(truth((64, 32))), rel=0.02)


class TestPlans:
    def test_within_the_limit_and_the_same_for_the_same_table(self, coupling: Coupling) -> None:
        table = table_of(coupling)
        made = [
            plan(coupling, even(coupling), Budget(max_latency=0.5), ranking="efficient", latency=table)
            for _ in range(2)
        ]
        assert made[0] == made[1]
        (cost, dense) = made[0].after, made[0].before
        assert cost is not None
        assert dense is not None
        assert dense.latency == pytest.approx(table.dense, rel=0.01)
        assert 0.4 * table.dense < cost.latency <= 0.5 * dense.latency

    def test_with_other_limits_all_hold(self, coupling: Coupling) -> None:
        budget = Budget(max_latency=0.7, max_parameters=0.3)
        made = plan(coupling, even(coupling), budget, ranking="efficient", latency=table_of(coupling))
        assert made.after.latency <= 0.7 * made.before.latency
        assert made.after.parameters <= 0.3 * made.before.parameters

    def test_out_of_reach(self, coupling: Coupling) -> None:
        with pytest.raises(BudgetError, match=r"--max-latency allows 0\.\d+ ms of 5\.\d+ ms latency"):
            plan(coupling, even(coupling), Budget(max_latency=0.01), latency=table_of(coupling))

    @pytest.mark.parametrize("given", [0.0, 1.5, 12])
    def test_it_is_a_share(self, coupling: Coupling, given: float) -> None:
        with pytest.raises(SettingError, match="--max-latency is"):
            plan(coupling, even(coupling), Budget(max_latency=given), latency=table_of(coupling))

    def test_it_needs_a_table(self, coupling: Coupling) -> None:
        with pytest.raises(SettingError, match="needs a latency table"):
            plan(coupling, even(coupling), Budget(max_latency=0.5))


class TestMeeting:
    def met(self, coupling: Coupling, share: float, off: float, *, correct: bool = True):
        """Meet a limit on a machine that takes `off` times what the table says of pruned models."""
        table = table_of(coupling)

        def planned(table: LatencyTable, aim: float) -> Plan:
            return plan(
                coupling, even(coupling), Budget(max_latency=aim), ranking="efficient", round_to=1, latency=table
            )

        def measure(made: Plan) -> Comparison:
            after = off * sum(truth(tuple(len(g.kept) for g in made.groups)))
            found = after / table.dense
            return Comparison(table.dense, after, found, found, found)

        found = meet_latency(planned, table, measure, share, correct=correct)
        if correct:
            assert planned(found.table, 0.975 * share) == found.plan  # the table gives this plan again
        return found

    @pytest.mark.parametrize("off", [0.8, 1.0, 1.3])
    def test_measured_close_below_the_limit(self, coupling: Coupling, off: float) -> None:
        assert 0.46 <= self.met(coupling, 0.5, off).measured.share <= 0.5

    def test_a_table_that_is_given_stays_as_it_is(self, coupling: Coupling) -> None:
        found = self.met(coupling, 0.5, 1.3, correct=False)
        assert found.table == table_of(coupling)
        assert found.measured.share > 0.55

    def test_never_fast_enough(self, coupling: Coupling) -> None:
        with pytest.raises(BudgetError, match="--max-latency"):
            self.met(coupling, 0.5, 8.0)


class TestFiles:
    def test_read_as_written(self, coupling: Coupling, tmp_path: Path) -> None:
        table = table_of(coupling).corrected((32, 16), 2.5)
        save_table(table, tmp_path / "t.json")
        assert load_table(tmp_path / "t.json") == table
        check_table(table, coupling, "t.json")

    def test_of_another_model(self, coupling: Coupling) -> None:
        with pytest.raises(SettingError, match=r"--latency-table t\.json: it was measured for another model"):
            check_table(table_of(coupling), analyse(conv_chain((8, 8))), "t.json")

    @pytest.mark.parametrize(
        ("changed", "says"),
        [
            ({"schema": 9}, "schema"),
            ({"samples": []}, "the first sample must be the dense model"),
            ({"groups": {"w0:0": 64}}, "a number for each group"),
            ({"cuts": [1]}, r"cuts\[0\]: it must be a string"),
            ({"samples": [{"kept": [64, 32], "whole": -1, "segments": [1, 2]}]}, "not negative"),
            ({"extra": 1}, "there is no field 'extra'"),
        ],
    )
    def test_what_is_wrong_is_named(self, coupling: Coupling, tmp_path: Path, changed: dict, says: str) -> None:
        document = json.loads(table_to_json(table_of(coupling))) | changed
        (tmp_path / "t.json").write_text(json.dumps(document))
        with pytest.raises(SettingError, match=says):
            load_table(tmp_path / "t.json")

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 1}'])
    def test_no_table(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "t.json").write_text(content)
        with pytest.raises(SettingError, match="cannot be read"):
            load_table(tmp_path / "t.json")


def test_measuring(coupling: Coupling) -> None:
    told: list[tuple[int, int]] = []
    effort = Effort(rounds=5, seconds=0, warm_up=1)
    options = RunOptions(threads=1)
    table = measure_table(coupling, options, round_to=8, effort=effort, progress=lambda *done: told.append(done))
    assert told == [(k, WIDTHS) for k in range(WIDTHS)]
    assert table.samples[0].kept == SIZES
    assert all(len(s.segments or ()) == 2 and s.whole > 0 for s in table.samples)
    assert all(k % 8 == 0 for s in table.samples for k in s.kept)
    assert {s.kept[0] for s in table.samples} >= {16, 64}
    assert table.machine["threads"] == "1"
