"""com.microsoft's operators that move elements, most of them older spellings of ai.onnx's."""

from __future__ import annotations

from onnxprune.coupling.atoms import Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule, same_rule
from onnxprune.graph.contrib import MICROSOFT
from onnxprune.ops.gather_nd import gather_nd
from onnxprune.ops.generators import range_
from onnxprune.ops.pad import pad
from onnxprune.ops.reshape import link_regrouped
from onnxprune.ops.trilu import trilu

same_rule(gather_nd, "GatherND", domain=MICROSOFT)
same_rule(pad, "Pad", domain=MICROSOFT)
same_rule(range_, "Range", domain=MICROSOFT)
same_rule(trilu, "Trilu", domain=MICROSOFT)


@rule("ExpandDims", domain=MICROSOFT)
def expand_dims(node: NodeView, link: Link) -> None:
    """Unsqueeze at one axis."""
    link_regrouped(node.x, node.y, link)
    node.input(1).ignore()


@rule("UnfoldTensor", domain=MICROSOFT)
def unfold(node: NodeView, link: Link) -> None:
    """X [..., D, ...] -> Y [..., windows, ..., size]: windows over axis `dim`, the elements of each last."""
    x, y, at = node.x, node.y, node.axis("dim", -1)
    why = "windows slide over it"
    for axis in range(x.rank):
        if axis == at:
            link.freeze(x[axis], why)
            link.freeze(y[axis], why)
        else:
            link.same(x[axis], y[axis])
    link.freeze(y[-1], why)
