"""Convolution whose taps are moved by computed offsets."""

from __future__ import annotations

from onnxprune.coupling.atoms import Ids, Link, Operand
from onnxprune.coupling.nodeview import NodeView, Work, every, work
from onnxprune.coupling.registry import rule
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.ops.conv import link_conv
from onnxprune.ops.spatial import SPATIAL, freeze_axes

_OFFSET, _BIAS, _MASK = 2, 3, 4  # input positions


@rule("DeformConv", since=19)
def deform_conv(node: NodeView, link: Link) -> None:
    """As Conv (Dai et al., arXiv:1703.06211), with offset and mask [N, g * ..., ...] for g runs of x's channels.

    A run goes with its offsets, or the same member of every run; the offsets of a run, one per tap and direction, stay.
    """
    x, w, y = node.x, node.input(1), node.y
    link_conv(x, w, y, node.attr("group", 1), link)
    if (bias := node.optional(_BIAS)) is not None:
        link.same(bias[0], y[1])
    runs = node.attr("offset_group", 1)
    run = link.fresh(runs)
    if runs > 1:
        link.factor(x[1], (runs, x.shape[1] // runs), (run, link.fresh(x.shape[1] // runs)))
    for position in (_OFFSET, _MASK):
        if (moved := node.optional(position)) is not None:
            link.same(moved[0], y[0])
            _link_taps(moved, run, link)
            freeze_axes(link, moved, range(2, moved.rank), SPATIAL)


def _link_taps(moved: Operand, run: Ids, link: Link) -> None:
    taps = link.fresh(moved.shape[1] // len(run))
    link.freeze(taps, "one number per kernel tap", at=(moved.name, 1))
    link.factor(moved[1], (len(run), len(taps)), (run, taps))


@deform_conv.literals
def _(node: NodeView, edit: Rewrite) -> None:
    if node.attr("group", 1) > 1:
        edit.attr("group", edit.shape(node.x)[1] // edit.shape(node.input(1))[1])
    if (runs := node.attr("offset_group", 1)) > 1:
        offset = node.input(_OFFSET)
        edit.attr("offset_group", edit.shape(offset)[1] * runs // offset.shape[1])


@deform_conv.macs
def _(node: NodeView) -> Work:
    return work(every(node.y), every(node.input(1), 1))
