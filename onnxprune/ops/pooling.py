"""Pooling over windows, over all places, over regions of interest, and back."""

from __future__ import annotations

from onnxprune.coupling.atoms import Decline, Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.ops.spatial import freeze_axes, link_image

GLOBAL_STATISTICS = {
    "GlobalAveragePool": "a mean is taken over it",
    "GlobalMaxPool": "the maximum is taken over it",
}


@rule("AveragePool", "LpPool")
def window_pool(node: NodeView, link: Link) -> None:
    """Each channel by itself, over windows of places."""
    link_image(node.x, node.y, link)


@rule("MaxPool")
def max_pool(node: NodeView, link: Link) -> None:
    """As the other window pools; the second output counts the places of the whole tensor, channels before included.

    MaxUnpool can do with indices that are counted anew after channels went; nothing else can.
    """
    link_image(node.x, node.y, link)
    indices = node.output(1)
    if indices is not None:
        link.same_axes(node.y, indices)
        if any(reader != ("MaxUnpool", 1) for reader in node.readers(1)):
            why = "its indices are used, and they count over batch and channels"
            freeze_axes(link, indices, [0, 1], why)


@rule("MaxUnpool")
def max_unpool(node: NodeView, link: Link) -> None:
    """Puts x's elements where a MaxPool found them: exact per channel if y has the shape that was pooled."""
    pool = node.maker(1)
    if pool is None or pool.op != "MaxPool" or node.node.inputs[1] != pool.outputs[-1]:
        raise Decline("its indices, which count over batch and channels, do not come straight from a MaxPool")
    if node.shape_of(pool.inputs[0]) != node.y.shape:
        raise Decline("its output has another shape than what was pooled, so its indices count otherwise")
    link_image(node.x, node.y, link)
    link.same_axes(node.x, node.input(1))


@max_unpool.literals
def _(node: NodeView, edit: Rewrite) -> None:
    if node.optional(2) is not None:
        edit.want(2, edit.shape(node.y))


@rule(*GLOBAL_STATISTICS, mixes=GLOBAL_STATISTICS)
def global_pool(node: NodeView, link: Link) -> None:
    """One number a channel; fewer places, if a Reshape made places of something that can go, change it."""
    x, y = node.x, node.y
    link.same(x[0], y[0])
    link.same(x[1], y[1])
    for axis in range(2, x.rank):
        link.mix(x[axis], GLOBAL_STATISTICS[node.op])


@rule("GlobalLpPool")
def global_lp_pool(node: NodeView, link: Link) -> None:
    """The p-norm over all places: a function of a sum whose terms are zero where x is zero."""
    x, y = node.x, node.y
    link.same(x[0], y[0])
    link.same(x[1], y[1])
    for axis in range(2, x.rank):
        link.contract(x, axis)


@rule("MaxRoiPool", "RoiAlign")
def roi_pool(node: NodeView, link: Link) -> None:
    """X [N, C, H, W], rois [R, 4 or 5], batch_indices [R] -> Y [R, C, h, w]: each region takes places of one image."""
    x, rois, y = node.x, node.input(1), node.y
    link.same(x[1], y[1])
    link.same(rois[0], y[0])
    if (images := node.optional(2)) is not None:
        link.same(images[0], y[0])
    link.freeze(x[0], "regions name images by their place in the batch")
    link.freeze(rois[1], "coordinates of regions")
    for operand in (x, y):
        freeze_axes(link, operand, [2, 3], "spatial axis")
