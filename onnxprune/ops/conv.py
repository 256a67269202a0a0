"""Convolutions of 1 to 3 spatial dimensions, grouped and depthwise too."""

from __future__ import annotations

from onnxprune.coupling.atoms import Link, Operand
from onnxprune.coupling.nodeview import NodeView, Work, every, work
from onnxprune.coupling.registry import rule
from onnxprune.coupling.rewrite import Rewrite


def _spatial(link: Link, x: Operand, w: Operand, y: Operand, channels: int = 1) -> None:
    """Batch stays with batch; spatial axes and the kernel's taps stay."""
    link.same(x[0], y[0])
    for operand in (x, y):
        for axis in range(1, operand.rank):
            if axis != channels % operand.rank:
                link.freeze(operand[axis], "spatial axis")
    for axis in range(2, w.rank):
        link.freeze(w[axis], "kernel tap")


@rule("Conv")
def conv(node: NodeView, link: Link) -> None:
    """X [N, C, ...], W [K, C/g, ...], B [K] -> Y [N, K, ...].

    With g groups, C = g x C/g and K = g x K/g: a group goes as a whole, or the same member of every group.
    """
    link_conv(node.x, node.input(1), node.y, node.attr("group", 1), link)
    if (bias := node.optional(2)) is not None:
        link.same(bias[0], node.y[1])


def link_conv(
    x: Operand, w: Operand, y: Operand, groups: int, link: Link, zero: Operand | None = None, channels: int = 1
) -> None:
    """The links of a convolution without its bias; shared with the quantised ones, whose x has a `zero` point.

    `channels` is the axis of x and y that holds them: 1, or -1 where they come last. The kernel is [K, C/g, ...].
    """
    _spatial(link, x, w, y, channels)
    link.same(w[0], y[channels])
    if groups == 1:
        link.contract(x, channels, w[1], zero)
    else:
        group = link.fresh(groups)
        link.contract(x, channels, zero=zero)
        link.factor(x[channels], (groups, w.shape[1]), (group, w[1]))
        link.factor(w[0], (groups, w.shape[0] // groups), (group, link.fresh(w.shape[0] // groups)))
    link.tag(w[0], "channels")
    link.tag(x[channels], "channels")


def rewrite_group(x: Operand, w: Operand, edit: Rewrite, channels: int = 1) -> None:
    """State the number of groups after an edit: x's channels by those that a kernel sees."""
    edit.attr("group", edit.shape(x)[channels] // edit.shape(w)[1])


@conv.literals
def _(node: NodeView, edit: Rewrite) -> None:
    if node.attr("group", 1) > 1:
        rewrite_group(node.x, node.input(1), edit)


@conv.macs
def _(node: NodeView) -> Work:
    return work(every(node.y), every(node.input(1), 1))


@rule("ConvTranspose")
def conv_transpose(node: NodeView, link: Link) -> None:
    """X [N, C, ...], W [C, K/g, ...], B [K] -> Y [N, K, ...]."""
    link_conv_transpose(node.x, node.input(1), node.y, node.optional(2), node.attr("group", 1), link)


def link_conv_transpose(x: Operand, w: Operand, y: Operand, bias: Operand | None, groups: int, link: Link) -> None:
    """The links of a transposed convolution; shared with the one whose pads are computed."""
    _spatial(link, x, w, y)
    if bias is not None:
        link.same(bias[0], y[1])
    link.contract(x, 1, w[0])
    if groups == 1:
        link.same(w[1], y[1])
    else:
        group = link.fresh(groups)
        link.factor(w[0], (groups, w.shape[0] // groups), (group, link.fresh(w.shape[0] // groups)))
        link.factor(y[1], (groups, w.shape[1]), (group, w[1]))
    link.tag(w[0], "channels")
    link.tag(y[1], "channels")


@conv_transpose.literals
def _(node: NodeView, edit: Rewrite) -> None:
    if node.attr("group", 1) > 1:
        edit.attr("group", edit.shape(node.y)[1] // edit.shape(node.input(1))[1])


@conv_transpose.macs
def _(node: NodeView) -> Work:
    return work(every(node.x), every(node.input(1), 1))
