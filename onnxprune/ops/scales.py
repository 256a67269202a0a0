"""Scales and zero points that go along with a quantised tensor: one for all of it, or one per index of an axis."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from onnxprune.coupling.atoms import Decline, Ids, Link, Operand


def size(x: Operand) -> int:
    """How many elements a tensor has."""
    return math.prod(x.shape)


def zero_point(x: Operand | None) -> Operand | None:
    """The zero point of activations, for the oracle: one element. Raises Decline where they have several."""
    if x is not None:
        if size(x) != 1:
            raise Decline(f"its input has zero points by row ({x.name} of shape {x.shape})")
        x.ignore()
    return x


def ignore_scalars(parameters: Iterable[Operand | None]) -> None:
    """Scales and zero points of a whole tensor say nothing about its axes. Raises Decline for any other."""
    for parameter in parameters:
        if parameter is not None:
            if size(parameter) != 1:
                raise Decline(f"{parameter.name} of shape {parameter.shape} is not one number")
            parameter.ignore()


def link_by_index(parameters: Iterable[Operand | None], ids: Ids, link: Link) -> None:
    """Scales and zero points: one for all, or a vector with one for each of `ids`."""
    for parameter in parameters:
        if parameter is None:
            continue
        if size(parameter) == 1:
            parameter.ignore()
        else:
            link.same(parameter[0], ids)


def link_columns(parameters: Iterable[Operand | None], b: Operand, link: Link) -> None:
    """Scales and zero points of a matrix [..., K, N]: one for all, [N], or [..., 1, N]."""
    for parameter in parameters:
        if parameter is None:
            continue
        parameter.ignore()
        for axis in range(parameter.rank):
            if parameter.shape[axis] > 1:
                link.same(parameter[axis], b[axis - parameter.rank])


def link_blocks(flat: Ids, blocks: Ids, block: int, at: tuple[str, int], link: Link) -> None:
    """`block` neighbours of the axis `flat` share one index of `blocks`: they go together, as a whole block.

    A last block that is not full stays, and stays the last. `at` is the tensor and axis of `flat`, for a person to
    read. Raises Decline where the numbers do not fit.
    """
    if len(blocks) != -(-len(flat) // block):
        raise Decline(f"{len(blocks)} blocks of {block} do not cover an axis of {len(flat)}")
    full = len(flat) // block
    whole, theirs = (flat, blocks) if full == len(blocks) else (flat[: full * block], blocks[:full])
    if len(blocks) == 1:
        link.freeze(flat, "its one scale is for the whole axis", at=at)
    elif full == 1:
        link.same(whole, np.repeat(theirs, block))
    elif full:
        inside = link.fresh(block)
        link.freeze(inside, f"{block} neighbours share a scale", "a block can go as a whole", at=at)
        link.factor(whole, (full, block), (theirs, inside))
    if full < len(blocks):
        why = f"blocks of {block} share a scale, and the last block is not full"
        link.freeze(flat[full * block :], why, at=at)
        link.freeze(blocks[full:], why, at=at)
