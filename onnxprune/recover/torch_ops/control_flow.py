"""If, Loop, Scan and SequenceMap: `bodies` run a graph of the node on values and give its results."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from onnxprune.recover.registry import op
from onnxprune.recover.step import Bodies, Step

_WITHOUT_BATCH_SINCE = 9


def _results(step: Step, values: list[Any]) -> Any:
    return values[0] if step.single else tuple(values)


@op("If", bodies=True)
def branch(step: Step, bodies: Bodies, condition: Tensor) -> Any:
    return _results(step, bodies["then_branch" if bool(condition) else "else_branch"]())


@op("Loop", bodies=True)
def loop(step: Step, bodies: Bodies, limit: Tensor | None, condition: Tensor | None, *states: Any) -> Any:
    trips = None if limit is None else int(limit)
    goes_on = condition is None or bool(condition)
    carried: list[Any] = list(states)
    parts: list[list[Tensor]] = [[] for _ in range(len(step.outputs) - len(states))]
    number = 0
    while goes_on and (trips is None or number < trips):
        again, *found = bodies["body"](torch.tensor(number), torch.tensor(True), *carried)
        carried = found[: len(states)]
        for kept, part in zip(parts, found[len(states) :], strict=False):
            kept.append(part)
        goes_on, number = bool(again), number + 1
    return _results(step, carried + [torch.stack(kept) if kept else torch.zeros(0) for kept in parts])


@op("Scan", bodies=True)
def scan(step: Step, bodies: Bodies, *inputs: Any) -> Any:
    if step.opset < _WITHOUT_BATCH_SINCE:
        return _batched_scan(step, bodies, *inputs)
    return _results(step, _scan(step, bodies, list(inputs)))


def _scan(step: Step, bodies: Bodies, inputs: list[Any]) -> list[Any]:
    count = step.attrs["num_scan_inputs"]
    states, sequences = inputs[: len(inputs) - count], inputs[len(inputs) - count :]
    axes = step.attr("scan_input_axes") or [0] * count
    backwards = step.attr("scan_input_directions") or [0] * count
    cuts = [list(x.unbind(axis)) for x, axis in zip(sequences, axes, strict=True)]
    cuts = [cut[::-1] if back else cut for cut, back in zip(cuts, backwards, strict=True)]
    outputs = len(step.outputs) - len(states)
    parts: list[list[Tensor]] = [[] for _ in range(outputs)]
    for number in range(len(cuts[0])):
        found = bodies["body"](*states, *(cut[number] for cut in cuts))
        states = found[: len(states)]
        for kept, part in zip(parts, found[len(states) :], strict=False):
            kept.append(part)
    out_axes = step.attr("scan_output_axes") or [0] * outputs
    reverse = step.attr("scan_output_directions") or [0] * outputs
    stacked = [
        torch.stack(kept[::-1] if back else kept, axis)
        for kept, axis, back in zip(parts, out_axes, reverse, strict=True)
    ]
    return [*states, *stacked]


def _batched_scan(step: Step, bodies: Bodies, lengths: Tensor | None, *inputs: Any) -> Any:
    """Before opset 9 each input has a batch axis first, and each sample is scanned by itself."""
    if lengths is not None:
        raise step.refusal("sequence lengths of a Scan before opset 9 are not supported")
    samples = [_scan(step, bodies, [x[n] for x in inputs]) for n in range(inputs[0].shape[0])]
    return _results(step, [torch.stack(list(values)) for values in zip(*samples, strict=True)])


@op("SequenceMap", bodies=True)
def sequence_map(step: Step, bodies: Bodies, *inputs: Any) -> Any:
    count = len(inputs[0])
    rows = [bodies["body"](*(x[k] if isinstance(x, list) else x for x in inputs)) for k in range(count)]
    return _results(step, [[row[k] for row in rows] for k in range(len(step.outputs))])
