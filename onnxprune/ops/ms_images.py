"""com.microsoft's operators on images."""

from __future__ import annotations

from onnxprune.coupling.atoms import Link
from onnxprune.coupling.nodeview import NodeView, Work, every, work
from onnxprune.coupling.registry import rule, same_rule
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.graph.contrib import MICROSOFT
from onnxprune.ops.conv import link_conv_transpose
from onnxprune.ops.pooling import roi_pool
from onnxprune.ops.resize import grid_sample

same_rule(grid_sample, "GridSample", domain=MICROSOFT)


@rule("CropAndResize", domain=MICROSOFT)
def crop_and_resize(node: NodeView, link: Link) -> None:
    """X [N, C, H, W], boxes [R, 4], the image of each [R], the size (h, w) -> Y [R, C, h, w]."""
    roi_pool.link(node, link)
    node.input(3).ignore()


@rule("ConvTransposeWithDynamicPads", domain=MICROSOFT)
def conv_transpose(node: NodeView, link: Link) -> None:
    """ConvTranspose of X, W and B (the fourth input), with pads as an input."""
    link_conv_transpose(node.x, node.input(1), node.y, node.optional(3), node.attr("group", 1), link)
    if (pads := node.optional(2)) is not None:
        pads.ignore()


@conv_transpose.literals
def _(node: NodeView, edit: Rewrite) -> None:
    if node.attr("group", 1) > 1:
        edit.attr("group", edit.shape(node.y)[1] // edit.shape(node.input(1))[1])


@conv_transpose.macs
def _(node: NodeView) -> Work:
    return work(every(node.x), every(node.input(1), 1))
