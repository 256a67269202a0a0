"""Timing in turn: the order of runs, what a sample is, ratios; never how fast this machine is."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxprune.errors import ModelError
from onnxprune.graph.io import load
from onnxprune.runtime.latency import Effort, Runner, Timing, clock_for, ratio, time_in_turn
from onnxprune.runtime.ort import RunOptions
from tests.support.planning import conv_chain

FEEDS = {"x": np.ones((1, 3, 8, 8), np.float32)}
ONE_THREAD = RunOptions(threads=1)


def busy() -> None:
    sum(range(20_000))


class TestInTurn:
    def test_each_runs_once_a_round_and_the_first_changes(self) -> None:
        order: list[str] = []

        def named(name: str) -> None:
            order.append(name)
            for _ in range(20):
                busy()

        runs = [lambda name=name: named(name) for name in "abc"]
        timings = time_in_turn(runs, Effort(rounds=6, seconds=100, warm_up=1))
        assert "".join(order[3:]) == "abcbcacababcbcacab"
        assert [len(t.samples) for t in timings] == [6, 6, 6]

    def test_short_runs_are_repeated_within_a_sample(self) -> None:
        calls = [0]

        def short() -> None:
            calls[0] += 1

        (timing,) = time_in_turn([short], Effort(rounds=5, seconds=0, warm_up=1))
        assert calls[0] >= 5 * 100  # far below a microsecond each, in samples of a millisecond
        assert 0 < timing.median < 1

    def test_out_of_time_five_rounds_are_left(self) -> None:
        (timing,) = time_in_turn([busy], Effort(rounds=1000, seconds=0))
        assert len(timing.samples) == 5

    def test_the_processors_clock_does_not_count_waiting(self) -> None:
        import time

        (timing,) = time_in_turn([lambda: time.sleep(0.02)], Effort(rounds=5, warm_up=1, seconds=0), "cpu")
        assert timing.median < 10


class TestRatio:
    def test_within_rounds(self) -> None:
        base = np.array([1.0, 10.0, 2.0, 4.0, 3.0])  # a machine that is sometimes busy
        found = ratio(Timing(base / 2, "wall"), Timing(base, "wall"))
        assert (found.median, found.low, found.high) == (0.5, 0.5, 0.5)

    def test_the_interval_is_of_order_statistics(self) -> None:
        each = np.arange(1.0, 101.0)
        found = ratio(Timing(each, "wall"), Timing(np.ones(100), "wall"))
        assert (found.median, found.low, found.high) == (50.5, 41.0, 61.0)  # 50 -+ 9.8, from 0: places 40 and 60


class TestRunner:
    def test_of_a_model_a_file_and_bytes(self, tmp_path) -> None:
        model = conv_chain()
        onnx.save(model, tmp_path / "m.onnx")
        for source in (load(model), model.SerializeToString(), tmp_path / "m.onnx"):
            runner = Runner.of(source, FEEDS, ONE_THREAD)
            runner()
            assert runner.session.get_providers() == ["CPUExecutionProvider"]

    def test_a_model_that_does_not_run(self) -> None:
        runner = Runner.of(load(conv_chain()), {"x": np.ones((1, 4, 8, 8), np.float32)}, ONE_THREAD)
        with pytest.raises(ModelError, match="does not run"):
            runner()


@pytest.mark.parametrize(("provider", "threads"), [("cpu", 2), ("cpu", 0), ("cuda", 1)])
def test_several_threads_and_devices_are_timed_by_the_wall(provider: str, threads: int) -> None:
    assert clock_for(RunOptions(provider, threads)) == "wall"
