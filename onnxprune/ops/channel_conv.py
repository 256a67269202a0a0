"""A convolution that slides over channels: efficient channel attention (ECA, https://arxiv.org/abs/1910.03151).

The channels of a pooled picture are laid along the one spatial axis of [N, 1, C], and a kernel [1, 1, k] mixes each
with its neighbours. A channel that goes lets those beside it move together: a statistic that changes, like a mean.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnxprune.coupling.atoms import Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.patterns import Claim, Surroundings, pattern
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.graph.view import Node

NEIGHBOURS = "a kernel slides over it, and its neighbours come together"


@pattern("Conv")
def channel_conv(node: Node, graph: Surroundings) -> Claim | None:
    """One channel in and out, stride 1, and one spatial axis longer than 1, as long behind it as before."""
    shapes = [graph.shapes.shape.get(name, ()) for name in (*node.inputs[:2], node.outputs[0])]
    x, w, y = shapes
    if len(x) < 3 or x != y or x[1:2] != (1,) or w[:2] != (1, 1):
        return None
    if any(stride != 1 for stride in node.attrs.get("strides", ())):
        return None
    places = [axis for axis in range(2, len(x)) if x[axis] > 1]
    if len(places) != 1:
        return None
    (along,) = places

    def link(views: Sequence[NodeView], link: Link) -> None:
        (view,) = views
        link.same(view.x[0], view.y[0])
        link.same(view.x[along], view.y[along])
        link.mix(view.x[along], NEIGHBOURS)
        for axis in range(2, len(w)):
            link.freeze(view.input(1)[axis], "kernel tap")

    def literals(views: Sequence[NodeView], place: int, edit: Rewrite) -> None:
        """It carries no sizes of what it slides over."""

    return Claim((node,), link, literals)
