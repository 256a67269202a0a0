"""com.microsoft's relative position bias: a table with a column per head, spread out over pairs of positions."""

from __future__ import annotations

from onnxprune.coupling.atoms import Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule
from onnxprune.graph.contrib import MICROSOFT
from onnxprune.ops.spatial import freeze_axes


@rule("RelativePositionBias", domain=MICROSOFT)
def relative_position_bias(node: NodeView, link: Link) -> None:
    """Table [buckets, heads], two lengths -> Y [1, heads, S, T] (T5, https://arxiv.org/abs/1910.10683)."""
    table, y = node.x, node.y
    link.freeze(table[0], "a bucket is a distance between positions")
    link.same(table[1], y[1])
    freeze_axes(link, y, [2, 3], "sequence positions stay")
    for length in node.inputs[1:]:
        if length is not None:
            length.ignore()
    link.tag(y[1], "heads")
