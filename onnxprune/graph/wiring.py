"""How Loop and Scan connect what they read and put out with their bodies (ONNX operator specification)."""

from __future__ import annotations

from dataclasses import dataclass

from onnxprune.graph.node import Node

_LOOP_COUNTERS = 2  # trip count and condition before the node, iteration number and condition inside
_SCAN_WITHOUT_BATCH = 9


@dataclass(frozen=True)
class Carried:
    """A state: positions of the input it starts with and of the output it ends in, keys of what the body reads and
    gives back.
    """

    start: int
    inner: str
    result: str
    final: int


@dataclass(frozen=True)
class Slices:
    """A tensor outside, at that position, has one more axis (negative: from the back) than its part in the body."""

    position: int
    part: str
    axis: int


@dataclass(frozen=True)
class Wiring:
    """The states, the inputs that are cut into slices for the body, the outputs that its results are stacked to."""

    carried: tuple[Carried, ...]
    cut: tuple[Slices, ...]
    stacked: tuple[Slices, ...]


def wiring(node: Node) -> Wiring | None:
    """The wiring of a Loop or Scan; None for another node, and for one that does not fit its body."""
    body = node.bodies.get("body")
    if body is None or node.domain:
        return None
    inputs, results = body.inputs, body.outputs
    if node.op == "Loop":
        skipped, states, cut = _LOOP_COUNTERS, len(inputs) - _LOOP_COUNTERS, 0
        results = results[1:]
    elif node.op == "Scan" and node.opset >= _SCAN_WITHOUT_BATCH:
        cut = node.attrs.get("num_scan_inputs", 0)
        skipped, states = 0, len(inputs) - cut
    else:
        return None
    stacked = len(results) - states
    cut_axes = node.attrs.get("scan_input_axes") or [0] * cut
    stacked_axes = node.attrs.get("scan_output_axes") or [0] * stacked
    fits = len(node.inputs) == len(inputs) and len(node.outputs) <= len(results)
    if not fits or min(states, cut, stacked) < 0 or len(cut_axes) != cut or len(stacked_axes) != stacked:
        return None
    return Wiring(
        tuple(Carried(skipped + k, inputs[skipped + k], results[k], k) for k in range(states)),
        tuple(Slices(states + k, inputs[states + k], axis) for k, axis in enumerate(cut_axes)),
        tuple(Slices(states + k, results[states + k], axis) for k, axis in enumerate(stacked_axes)),
    )
