"""com.microsoft's causal convolution, whose state is carried from call to call, and gates of linear attention."""

from __future__ import annotations

from onnxprune.coupling.atoms import Decline, Link, Operand
from onnxprune.coupling.nodeview import NodeView, Work, every, work
from onnxprune.coupling.registry import rule
from onnxprune.graph.contrib import MICROSOFT
from onnxprune.ops.spatial import freeze_axes

_WINDOW = "states of several steps"


@rule("LinearAttentionGate", domain=MICROSOFT)
def linear_attention_gate(node: NodeView, link: Link) -> None:
    """a and b [N, T, H], bias and scale [H] -> decay and beta [N, T, H]."""
    for x in (node.optional(3), *node.outputs):
        if x is not None:
            link.same_axes(node.x, x)
    for position in (1, 2):
        link.same(node.input(position)[0], node.x[2])


@rule("CausalConvWithState", domain=MICROSOFT)
def causal_conv_with_state(node: NodeView, link: Link) -> None:
    """As CausalConvWithState of ai.onnx; also of images, with channels last [N, L, C], and with a window of states."""
    x, w, last = node.x, node.input(1), node.attr("channels_last", 0)
    if last and x.rank > 3:
        raise Decline("its channels are spread over several axes")
    channels = 2 if last else 1
    for vector in (w, node.optional(2)):
        if vector is not None:
            link.same(vector[0], x[channels])
    freeze_axes(link, w, range(2, w.rank), "kernel tap")
    for other in (x, node.optional(3), *node.outputs):
        if other is not None:
            _link_steps(other, x, channels, link)
    link.tag(x[channels], "channels")


def _link_steps(other: Operand, x: Operand, channels: int, link: Link) -> None:
    """Batch and channels are x's, all else is time or place; a window of states comes first."""
    window = other.rank - x.rank
    freeze_axes(link, other, range(window), _WINDOW)
    for axis in range(x.rank):
        if axis in (0, channels):
            link.same(other[axis + window], x[axis])
        else:
            link.freeze(other[axis + window], "steps of a sequence")


@causal_conv_with_state.macs
def _(node: NodeView) -> Work:
    return work(every(node.y), every(node.input(1), 2))
