"""com.microsoft's activations, alone or with a bias or a residual added first."""

from __future__ import annotations

from onnxprune.coupling.atoms import Decline, Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule, same_rule
from onnxprune.graph.contrib import MICROSOFT
from onnxprune.ops.elementwise import DRAWN, broadcast, tag_width, unary
from onnxprune.ops.softmax import link_distribution

same_rule(unary, "Gelu", "QuickGelu", "SampleOp", "MurmurHash3", domain=MICROSOFT)


@rule("ScaledSiLU", domain=MICROSOFT)
def scaled(node: NodeView, link: Link) -> None:
    """y has x's axes; the scale is one number."""
    link.same_axes(node.x, node.y)
    if (scale := node.optional(1)) is not None:
        scale.ignore()


@rule("BiasGelu", "FastGelu", "BiasAdd", "GatedAdd", domain=MICROSOFT)
def with_bias(node: NodeView, link: Link) -> None:
    """Y has X's axes; a bias [C], a residual of X's shape, and a gate [..., 1] broadcast to it."""
    y = node.y
    y.ignore()
    given = [x for x in node.inputs if x is not None]
    for x in given:
        broadcast(x, y, link)
    tag_width([x for x in given if not x.is_constant], y, link)


@rule("BiasSplitGelu", domain=MICROSOFT)
def bias_split_gelu(node: NodeView, link: Link) -> None:
    """X [N, S, 2 * D] + bias [2 * D] -> Y [N, S, D], the first half times Gelu of the second: i goes with D + i."""
    x, y = node.x, node.y
    link.same_axes(x, y, skip=x.rank - 1)
    half = y.shape[-1]
    for part in (x[-1][:half], x[-1][half:]):
        link.same(part, y[-1])
    link.same(node.input(1)[0], x[-1])


@rule("BiasSoftmax", domain=MICROSOFT, mixes="Softmax runs over it")
def bias_softmax(node: NodeView, link: Link) -> None:
    """Softmax over all axes of data from `axis` on, with a bias that broadcasts to data added first."""
    link_distribution(node.x, node.y, range(node.axis("axis", 1), node.x.rank), "Softmax", link)
    bias = node.input(1)
    if bias.rank != node.x.rank:
        raise Decline("its bias has another rank than its data")
    broadcast(bias, node.y, link)


@rule("BiasDropout", domain=MICROSOFT, in_training=DRAWN)
def bias_dropout(node: NodeView, link: Link) -> None:
    """Dropout of data + bias, plus a residual; as Dropout, it draws random numbers in training alone."""
    x = node.x
    for y in node.outputs:
        if y is not None:
            link.same_axes(x, y)
    for other in (node.input(1), node.optional(2)):
        if other is not None:
            broadcast(other, x, link)
    for scalar in node.inputs[3:]:
        if scalar is not None:
            scalar.ignore()
    if node.optional(4) is not None:
        training = node.value(4)
        if training is None or training.any():
            for axis in range(x.rank):
                link.mix(x[axis], DRAWN)
