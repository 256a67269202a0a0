"""Operators that draw a random number per element of their input's shape."""

from __future__ import annotations

from onnxprune.coupling.atoms import Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule
from onnxprune.ops.elementwise import DRAWN


@rule("Bernoulli", "RandomNormalLike", "RandomUniformLike", mixes=DRAWN)
def drawn_like(node: NodeView, link: Link) -> None:
    """y has x's axes. What stays of a smaller tensor draws other numbers, even from the same seed."""
    link.same_axes(node.x, node.y)
    for axis in range(node.x.rank):
        link.mix(node.x[axis], DRAWN)
