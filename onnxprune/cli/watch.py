"""What times candidates beside the dense model: ONNX Runtime here, or a command of the user's."""

from __future__ import annotations

import tempfile
from pathlib import Path

from onnxprune.coupling.coupling import Coupling
from onnxprune.edit import carry
from onnxprune.graph.io import save
from onnxprune.graph.model import Model
from onnxprune.plan.meeting import Comparison
from onnxprune.runtime.command import check_command, milliseconds
from onnxprune.runtime.latency import Effort, Runner, clock_for, ratio, time_in_turn
from onnxprune.runtime.ort import RunOptions
from onnxprune.runtime.segments import feeds_of
from onnxprune.types import Plan

_EFFORT = Effort(rounds=60, seconds=30)


class Watch:
    """ONNX Runtime on this machine, both models in turn."""

    def __init__(self, coupling: Coupling, options: RunOptions) -> None:
        self._coupling, self._options = coupling, options

    def compare(self, plan: Plan) -> Comparison:
        """Time the dense model and a candidate."""
        before, after = time_in_turn(
            [self._runner(self._coupling.view.model), self._runner(carry(self._coupling, plan).model)],
            _EFFORT,
            clock_for(self._options),
        )
        found = ratio(after, before)
        return Comparison(before.median, after.median, found.median, found.low, found.high)

    def dense(self) -> float:
        """Milliseconds of the dense model."""
        (found,) = time_in_turn([self._runner(self._coupling.view.model)], _EFFORT, clock_for(self._options))
        return found.median

    def _runner(self, model: Model) -> Runner:
        return Runner.of(model, feeds_of(self._coupling, model, self._options.seed), self._options)


class CommandWatch:
    """A command that prints the milliseconds of the model that it is given; the dense model is timed once."""

    def __init__(self, coupling: Coupling, command: str) -> None:
        check_command(command)
        self._coupling, self._command = coupling, command
        self._dense: float | None = None

    def compare(self, plan: Plan) -> Comparison:
        """Time a candidate, and the dense model where that was not done yet."""
        before, after = self.dense(), self._time(carry(self._coupling, plan).model)
        share = after / before
        return Comparison(before, after, share, share, share)

    def dense(self) -> float:
        """Milliseconds of the dense model."""
        if self._dense is None:
            self._dense = self._time(self._coupling.view.model)
        return self._dense

    def _time(self, model: Model) -> float:
        with tempfile.TemporaryDirectory(prefix="onnxprune-") as folder:
            return milliseconds(self._command, save(model, Path(folder) / "candidate.onnx").path)


def watch_for(options: RunOptions, coupling: Coupling, command: str | None) -> Watch | CommandWatch:
    """The user's command if there is one. Raises SettingError for one that cannot be run."""
    return Watch(coupling, options) if command is None else CommandWatch(coupling, command)
