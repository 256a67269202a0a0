"""Softmax, LogSoftmax, Hardmax: a distribution over an axis (before opset 13, over all axes from it on)."""

from __future__ import annotations

from onnxprune.coupling.atoms import Link, Operand
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule

OPS = ("Softmax", "LogSoftmax", "Hardmax")
RUNS = {op: f"{op} runs over it" for op in OPS}


@rule(*OPS, mixes=RUNS)
def flattened(node: NodeView, link: Link) -> None:
    """Before opset 13: x is seen as 2-D, [before `axis`, from `axis` on], and each row is a distribution."""
    link_distribution(node.x, node.y, range(node.axis("axis", 1), node.x.rank), node.op, link)


@rule(*OPS, since=13, mixes=RUNS)
def along_axis(node: NodeView, link: Link) -> None:
    """y is a distribution over `axis`, the last unless given."""
    axis = node.axis("axis", -1)
    link_distribution(node.x, node.y, range(axis, axis + 1), node.op, link)


def link_distribution(x: Operand, y: Operand, axes: range, op: str, link: Link) -> None:
    """y is a distribution over these axes of x together; shared with the quantised Softmax."""
    link.same_axes(x, y)
    for axis in axes:
        link.mix(x[axis], f"{op} runs over it")
