"""Operators that trade channels for places: pixel shuffle and its inverse, and columns back to an image."""

from __future__ import annotations

from math import prod

from onnxprune.coupling.atoms import Ids, Link, Operand
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule
from onnxprune.ops.spatial import SPATIAL, freeze_axes


def _link_blocks(node: NodeView, deep: Operand, wide: Operand, link: Link, *, block: int, blocks_first: bool) -> None:
    """`deep` has, for every channel of `wide`, `block` channels: one for each place of a block."""
    places = _places(link, wide, block)
    if blocks_first:
        link.factor(deep[1], (block, wide.shape[1]), (places, wide[1]))
    else:
        link.factor(deep[1], (wide.shape[1], block), (wide[1], places))
    link.same(node.x[0], node.y[0])
    for operand in (deep, wide):
        freeze_axes(link, operand, range(2, operand.rank), SPATIAL)


def _places(link: Link, wide: Operand, block: int) -> Ids:
    places = link.fresh(block)
    link.freeze(places, SPATIAL, at=(wide.name, 2))
    return places


@rule("DepthToSpace")
def depth_to_space(node: NodeView, link: Link) -> None:
    """x [N, C*b*b, H, W] -> y [N, C, H*b, W*b]: y's channel goes with its b*b channels of x.

    Mode DCR (the only one before opset 11) has a block's places before the channel, CRD after it.
    """
    blocks_first = node.attr("mode", "DCR") == "DCR"
    block = node.attr("blocksize") ** 2
    _link_blocks(node, node.x, node.y, link, block=block, blocks_first=blocks_first)


@rule("SpaceToDepth")
def space_to_depth(node: NodeView, link: Link) -> None:
    """x [N, C, H*b, W*b] -> y [N, C*b*b, H, W]: x's channel goes with its b*b channels of y (CRD since opset 28)."""
    blocks_first = node.attr("mode", "DCR") == "DCR"
    block = node.attr("blocksize") ** 2
    _link_blocks(node, node.y, node.x, link, block=block, blocks_first=blocks_first)


@rule("Col2Im", since=18)
def col2im(node: NodeView, link: Link) -> None:
    """x [N, C*b1*b2..., L] -> y [N, C, ...]: overlapping blocks are added up, each channel by itself."""
    block = prod(node.ints(2) or [1])
    _link_blocks(node, node.x, node.y, link, block=block, blocks_first=False)
