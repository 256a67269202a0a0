"""What a Relu or Clip behind a value hides of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.graph.view import Node


@dataclass(frozen=True)
class Bounds:
    """What the operator behind a layer clips to; infinite where it does not."""

    low: float = -np.inf
    high: float = np.inf

    def missing(self, given: np.ndarray, total: np.ndarray) -> np.ndarray:
        """What `given` lacks to give what `total` does, once both are clipped: none where both lie beyond a bound."""
        missing = total - given
        below, above = total <= self.low, total >= self.high
        missing[below] = np.minimum(self.low - given[below], 0)
        missing[above] = np.maximum(self.high - given[above], 0)
        return np.asarray(missing)

    def clip(self, values: np.ndarray) -> np.ndarray:
        """What comes out behind it."""
        return np.asarray(np.clip(values, self.low, self.high))


def bounds_behind(coupling: Coupling, name: str) -> Bounds | None:
    """What a value is clipped to before anything else reads it; None where it is not."""
    view = coupling.view
    readers = view.consumers.get(name, ())
    if len(readers) != 1 or view.leaves(name) or readers[0][1] != 0:
        return None
    return bounds_of(coupling, readers[0][0])


def bounds_of(coupling: Coupling, node: Node) -> Bounds | None:
    """What a Relu or Clip clips to, None where that is computed from data; None for any other node."""
    if node.domain:
        return None
    if node.op == "Relu":
        return Bounds(0.0)
    if node.op != "Clip":
        return None
    limits = [node.attrs.get(side) for side in ("min", "max")]
    for position, key in enumerate(node.inputs[1:]):
        value = coupling.shapes.value.get(key)
        if key and (value is None or value.size != 1):
            return None
        limits[position] = None if value is None else value.item()
    low, high = limits
    return Bounds(-np.inf if low is None else float(low), np.inf if high is None else float(high))
