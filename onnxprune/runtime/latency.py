"""How long models take. What is compared is timed in turn, so that whatever else the machine does meets all alike.

runners = [Runner.of(model, feeds, options) for model in (dense, pruned)]
before, after = time_in_turn(runners)
ratio(after, before)
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from onnxprune.errors import ModelError
from onnxprune.graph.model import Model
from onnxprune.runtime.ort import RunOptions, first_line, make_session, run
from onnxprune.runtime.tap import data_folder

Clock = Literal["wall", "cpu"]

_CLOCKS: dict[Clock, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.thread_time}
# With several sessions in one process the threads of one would spin on while the next one is timed.
_QUIET = {"session.force_spinning_stop": "1"}
_DEVICES = {"CUDAExecutionProvider": "cuda", "TensorrtExecutionProvider": "cuda"}
_LEAST_SAMPLE = 1e-3  # seconds: shorter runs are repeated up to this within a sample
_LEAST_ROUNDS = 5
_Z = 1.96  # of a normal, for 95 %


@dataclass(frozen=True)
class Timing:
    """`samples` (float64, milliseconds a run), one a round; those of one `time_in_turn` belong together by round."""

    samples: np.ndarray
    clock: Clock

    @property
    def median(self) -> float:
        """Milliseconds."""
        return float(np.median(self.samples))

    @property
    def least(self) -> float:
        """Milliseconds: what the run takes where nothing disturbs it."""
        return float(self.samples.min())

    def percentile(self, share: float) -> float:
        """Milliseconds that `share` (0 to 100) percent of the rounds stayed within."""
        return float(np.percentile(self.samples, share))


@dataclass(frozen=True)
class Ratio:
    """The median over rounds of one model's time by another's, and a 95 % interval of that median."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Effort:
    """How long to measure: `warm_up` runs, then rounds until `rounds` are done or `seconds` have passed.

    At least five rounds, however long they take.
    """

    rounds: int = 50
    seconds: float = 20.0
    warm_up: int = 3


class Runner:
    """A session with its inputs in place; on a GPU inputs and outputs stay in its memory, and a run ends once done."""

    def __init__(self, session: Any, feeds: Mapping[str, np.ndarray]) -> None:
        self.session = session
        device = _DEVICES.get(session.get_providers()[0])
        self._run: Callable[[], object] = partial(run, session, None, dict(feeds))
        if device is not None and all(np.asarray(array).dtype != object for array in feeds.values()):
            self._run = _bound(session, feeds, device)

    @classmethod
    def of(
        cls, model: Model | bytes | str | os.PathLike[str], feeds: Mapping[str, np.ndarray], options: RunOptions
    ) -> Runner:
        """A runner of a model, a serialized one or a file. Raises as `make_session` does."""
        if isinstance(model, Model):
            content = model.to_proto().SerializeToString()
            return cls(make_session(content, options, folder=data_folder(model), settings=_QUIET), feeds)
        return cls(make_session(model, options, settings=_QUIET), feeds)

    def __call__(self) -> None:
        """Run once. Raises ModelError where ONNX Runtime fails."""
        self._run()


def _bound(session: Any, feeds: Mapping[str, np.ndarray], device: str) -> Callable[[], object]:
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_cpu_input(name, np.ascontiguousarray(array))  # copied to where the first node wants it
    for output in session.get_outputs():
        binding.bind_output(output.name, device)
    binding.synchronize_inputs()

    def once() -> None:
        try:
            session.run_with_iobinding(binding)
        except Exception as error:
            raise ModelError(f"ONNX Runtime does not run the model: {first_line(error)}") from error
        binding.synchronize_outputs()

    return once


def clock_for(options: RunOptions) -> Clock:
    """The clock that other work on the machine disturbs least.

    One thread on the CPU is timed by what the processor spent on it, where the system counts that finely enough; all
    else by the wall clock.
    """
    fine = time.get_clock_info("thread_time").resolution < _LEAST_SAMPLE / 100
    return (
        "cpu"
        if options.threads == 1 and options.provider.lower() in ("cpu", "cpuexecutionprovider") and fine
        else "wall"
    )


def time_in_turn(
    runs: Sequence[Callable[[], object]], effort: Effort = Effort(), clock: Clock = "wall"
) -> list[Timing]:
    """Time what is to be compared: each once a round, the first of a round another one each time.

    "cpu" counts the calling thread's processor time: sound for one thread on the CPU, see `clock_for`.
    """
    now = _CLOCKS[clock]
    repeats = [_repeats(once, effort.warm_up, now) for once in runs]
    samples = np.empty((effort.rounds if effort.rounds > _LEAST_ROUNDS else _LEAST_ROUNDS, len(runs)))
    end = time.perf_counter() + effort.seconds
    done = 0
    while done < len(samples) and (done < _LEAST_ROUNDS or time.perf_counter() < end):
        for step in range(len(runs)):
            which = (step + done) % len(runs)
            started = now()
            for _ in range(repeats[which]):
                runs[which]()
            samples[done, which] = (now() - started) / repeats[which]
        done += 1
    return [Timing(1e3 * samples[:done, which], clock) for which in range(len(runs))]


def _repeats(once: Callable[[], object], warm_up: int, now: Callable[[], float]) -> int:
    """How many runs make a sample that is long enough to be timed, after warming up."""
    best = math.inf
    for _ in range(max(warm_up, 1)):
        started = now()
        once()
        best = min(best, now() - started)
    return max(1, math.ceil(_LEAST_SAMPLE / max(best, 1e-6)))


def ratio(timing: Timing, base: Timing) -> Ratio:
    """How much of the base's time a model takes, from the ratios within each round of one `time_in_turn`.

    The interval is that of order statistics, which assumes nothing of how times are distributed (Conover, "Practical
    Nonparametric Statistics", 3.2).
    """
    each = np.sort(timing.samples / base.samples)
    count = len(each)
    reach = _Z * math.sqrt(count) / 2
    low, high = max(math.floor(count / 2 - reach), 0), min(math.ceil(count / 2 + reach), count - 1)
    return Ratio(float(np.median(each)), float(each[low]), float(each[high]))
