"""The depthwise convolution of state-space models, with the steps that it still remembers."""

from __future__ import annotations

from onnxprune.coupling.atoms import Link
from onnxprune.coupling.nodeview import NodeView, Work, every, work
from onnxprune.coupling.registry import rule
from onnxprune.ops.spatial import freeze_axes


@rule("CausalConvWithState", since=27)
def causal_conv(node: NodeView, link: Link) -> None:
    """x [N, C, L], W [C, 1, k], B [C], past [N, C, k - 1] -> y [N, C, L], present [N, C, k - 1], channel by channel."""
    x, w = node.x, node.input(1)
    link.same(x[1], w[0])
    freeze_axes(link, w, [2], "kernel tap")
    if (bias := node.optional(2)) is not None:
        link.same(x[1], bias[0])
    for other in (node.optional(3), *node.outputs):
        if other is not None:
            link.same(x[0], other[0])
            link.same(x[1], other[1])
            freeze_axes(link, other, [2], "steps of a sequence")
    freeze_axes(link, x, [2], "steps of a sequence")
    link.tag(x[1], "channels")


@causal_conv.macs
def _(node: NodeView) -> Work:
    return work(every(node.y), (node.input(1), 2))
