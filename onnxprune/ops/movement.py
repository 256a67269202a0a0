"""Operators that move whole indices: Transpose, Concat. (Split has a file of its own.)"""

from __future__ import annotations

from collections.abc import Iterable

from onnxprune.coupling.atoms import Link, Operand
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule


@rule("Transpose")
def transpose(node: NodeView, link: Link) -> None:
    """y's axis i is x's axis perm[i]."""
    x, y = node.x, node.y
    for target, source in enumerate(node.attr("perm") or range(x.rank - 1, -1, -1)):
        link.same(x[source], y[target])


@rule("Concat")
def concat(node: NodeView, link: Link) -> None:
    """y's axis is the inputs laid end to end; the other axes match."""
    link_concat([x for x in node.inputs if x is not None], node.y, node.axis("axis", 1), link)


def link_concat(inputs: Iterable[Operand], y: Operand, axis: int, link: Link) -> None:
    """The links of a concatenation along `axis`; shared with the quantised one."""
    start = 0
    for x in inputs:
        size = x.shape[axis]
        if size == y.shape[axis]:
            link.same(y[axis], x[axis])
        else:
            link.same(y[axis][start : start + size], x[axis])
        link.same_axes(x, y, skip=axis)
        start += size
