"""ReverseSequence: each item of a batch is reversed in time, up to its own length."""

from __future__ import annotations

from onnxprune.coupling.atoms import Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule


@rule("ReverseSequence", since=10)
def reverse_sequence(node: NodeView, link: Link) -> None:
    """x and y alike, lengths [B]: time moves by position and stays."""
    x, time = node.x, node.axis("time_axis", 0)
    link.same_axes(x, node.y)
    link.freeze(x[time], "time is reversed by position", at=(x.name, time))
    link.same(node.input(1)[0], x[node.axis("batch_axis", 1)])
