"""Runs a graph's steps on a dictionary of values, bodies of If, Loop and Scan included."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from onnxprune.errors import ModelError
from onnxprune.graph.node import Scope
from onnxprune.recover.step import Step

_FAILURES = (RuntimeError, IndexError, TypeError, ValueError, KeyError, ZeroDivisionError, NotImplementedError)


class Program:
    """The steps of a model, in the order in which they run, and those of each body by its title.

    `kept` are values that outlive the steps that read them: outputs, and what somebody asked for.
    """

    def __init__(self, main: Sequence[Step], bodies: Mapping[str, tuple[Scope, Sequence[Step]]]) -> None:
        self.main = main
        self.bodies = bodies

    def run(self, values: dict[str, Any], wanted: Collection[str] = ()) -> dict[str, Any]:
        """Run all steps; `values` are those of inputs and stored tensors, and are added to. Gives those in `wanted`."""
        found: dict[str, Any] = {name: values[name] for name in wanted if name in values}
        self._run(self.main, values, set(wanted) - found.keys(), found)
        return found

    def _run(self, steps: Iterable[Step], values: dict[str, Any], wanted: set[str], found: dict[str, Any]) -> None:
        """Run steps, until all that is `wanted` is found where anything is."""
        for step in steps:
            inputs = [values[name] if name else None for name in step.inputs]
            try:
                result = self._call(step, inputs, values)
            except _FAILURES as error:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise ModelError(
                    f"torch cannot run {step.title}: {reason}", remedy="Check the shapes of the inputs that it is fed"
                ) from error
            if step.single:
                values[step.outputs[0]] = result
            else:
                for name, value in zip(step.outputs, result, strict=False):
                    if name:
                        values[name] = value
            if wanted:
                for name in wanted.intersection(step.outputs):
                    found[name] = values[name]
                    wanted.discard(name)
                if not wanted:
                    return
            for name in step.drops:
                values.pop(name, None)

    def _call(self, step: Step, inputs: list[Any], values: dict[str, Any]) -> Any:
        if step.owner.device_type != "cpu":
            inputs = _on_one_device(step, inputs, step.owner.device)
        if not step.form.bodies:
            return step.function(step, *inputs)
        bodies = {name: self._body(scope, values) for name, scope in step.node.bodies.items()}
        return step.function(step, bodies, *inputs)

    def _body(self, scope: Scope, values: dict[str, Any]) -> Any:
        _, steps = self.bodies[scope.title]

        def run(*inputs: Any) -> list[Any]:
            values.update(zip(scope.inputs, inputs, strict=False))
            self._run(steps, values, set(), {})
            return [values[name] for name in scope.outputs]

        return run


def _on_one_device(step: Step, inputs: list[Any], device: torch.device) -> list[Any]:
    """Sizes and small constants live on the CPU: what is computed with them moves to where the data is."""
    settings = step.form.settings
    computed = [x for k, x in enumerate(inputs) if isinstance(x, Tensor) and k not in settings]
    if all(x.device.type == "cpu" for x in computed) or all(x.device == device for x in computed):
        return inputs
    return [
        x.to(device) if isinstance(x, Tensor) and k not in settings and x.device != device else x
        for k, x in enumerate(inputs)
    ]
