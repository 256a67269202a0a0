"""Which sizes vary: what is computed from a dynamic dimension of an input, element by element and axis by axis.

An axis varies if it has another length at other sizes of the dynamic dimensions; where that is not known, unless onnx
infers its length with none of them bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from onnxprune.graph.evaluate import EVALUATORS, split
from onnxprune.graph.view import Node
from onnxprune.graph.weightless import symbolically_static

if TYPE_CHECKING:
    from onnxprune.graph.shapes import Walk

_CONTENT = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1}
"""How many leading inputs say what is in the output; the rest only say how long it is."""


class Varying:
    """Marks what varies; a part of the walk of shapes.py."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self._static: dict[str, tuple[bool, ...]] | None = None

    def mark(self, node: Node, name: str, values: list[np.ndarray | None], result: np.ndarray) -> None:
        """Carry "computed from a Shape" and "varies with a dynamic dimension" from the inputs to the output."""
        known = self.walk.known
        if any(source in known.sized for source in node.inputs[: _CONTENT.get(node.op)]):
            known.sized.add(name)
        if not known.varying:
            return
        masks = [known.varying.get(source) for source in node.inputs]
        if all(mask is None for mask in masks):
            return
        evaluator = EVALUATORS[node.op]
        spread = [
            mask if mask is not None else np.zeros(() if value is None else value.shape, bool)
            for mask, value in zip(masks, values, strict=True)
        ]
        if evaluator.spread == "move" and all(mask is None for mask in masks[evaluator.data :]):
            moved = [*spread[: evaluator.data], *values[evaluator.data :]]
            marked = evaluator.function(node, *moved)
        elif evaluator.spread == "pointwise":
            marked = np.zeros(result.shape, bool)
            for mask in spread:
                marked = marked | mask
        else:
            marked = np.ones(result.shape, bool)
        if marked is not None and np.any(marked):
            known.varying[name] = np.asarray(marked, bool)

    def mark_parts(self, node: Node, sizes: np.ndarray | None) -> None:
        """The same for a Split of known `sizes`: each output has what its part of the input has."""
        known, source = self.walk.known, node.inputs[0]
        if source in known.sized:
            known.sized.update(filter(None, node.outputs))
        mask = known.varying.get(source)
        for name, part in zip(node.outputs, () if mask is None else split(node, mask, sizes) or (), strict=False):
            if name and part.any():
                known.varying[name] = part

    def axes(self, name: str) -> tuple[bool, ...]:
        """Per axis, whether its length may depend on a dynamic dimension of an input."""
        known, like = self.walk.known, self.walk.like
        if like is not None and name in like.varying_axes:
            return like.varying_axes[name]
        if name not in known.varying_axes:
            known.varying_axes[name] = self._find_axes(name)
        return known.varying_axes[name]

    def _find_axes(self, name: str) -> tuple[bool, ...]:
        walk = self.walk
        rank = len(walk.known.shape[name])
        if walk.is_other or not walk.bindings.any_dynamic:
            return (False,) * rank
        if name in walk.bindings.dynamic:
            return walk.bindings.dynamic[name]
        if name in walk.view.initializers:
            return (False,) * rank
        other = walk.at_other_sizes().shape.get(name)
        if other is not None and len(other) == rank:
            return tuple(a != b for a, b in zip(other, walk.known.shape[name], strict=True))
        if self._static is None:
            self._static = symbolically_static(walk.view)
        static = self._static.get(name)
        return (True,) * rank if static is None or len(static) != rank else tuple(not s for s in static)
