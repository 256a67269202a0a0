"""Gather: y consists of the indices of one of x's axes that a tensor of indices names."""

from __future__ import annotations

import numpy as np

from onnxprune.coupling.atoms import Decline, Link, Operand
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule
from onnxprune.coupling.renumber import renumber, resolve
from onnxprune.coupling.rewrite import Rewrite


@rule("Gather")
def gather(node: NodeView, link: Link) -> None:
    """x [..., D, ...], indices of shape I -> y [..., *I, ...].

    Indices that are known are indexing of ids; those computed from data may name any row of x, so that axis stays.
    """
    x, indices, y = node.x, node.input(1), node.y
    axis = node.axis("axis", 0)
    for a in range(x.rank):
        if a != axis:
            link.same(x[a], y[a if a < axis else a + indices.rank - 1])
    window = range(axis, axis + indices.rank)
    chosen = known_indices(node, 1)
    if chosen is None:
        link.freeze(x[axis], "its indices are addressed by data", at=(x.name, axis))
        for k, a in enumerate(window):
            link.same(indices[k], y[a])
    elif node.varies(1):
        link.freeze(x[axis], "its indices are addressed by a dynamic dimension", at=(x.name, axis))
        for a in window:
            link.freeze(y[a], "as long as a dynamic dimension says")
        indices.ignore()
    else:
        indices.ignore()
        link_chosen(x, axis, chosen, [y[a] for a in window], link)


@gather.literals
def _(node: NodeView, edit: Rewrite) -> None:
    x, y, axis = node.x, node.y, node.axis("axis", 0)
    chosen = known_indices(node, 1)
    if chosen is None or node.varies(1) or not edit.changed(x, axis):
        return
    remaining = chosen[np.ix_(*[edit.kept(y, axis + k) for k in range(chosen.ndim)])]
    edit.want(1, renumbered(remaining, x, axis, edit))


def known_indices(node: NodeView, position: int) -> np.ndarray | None:
    """The indices where they are stored or computed from sizes, None where they come from data."""
    found = node.value(position)
    return None if found is None else np.asarray(found)


def link_chosen(x: Operand, axis: int, chosen: np.ndarray, window: list[np.ndarray], link: Link) -> None:
    """The axes `window`, of `chosen`'s shape, consist of the indices `chosen` of x's axis.

    Raises Decline where an index is outside the axis.
    """
    front = resolve(chosen, x.shape[axis])
    if front is None or not front.size:
        raise Decline(f"indices that select nothing of {x.name}, or are outside it")
    taken = x[axis][front.reshape(-1)]
    if front.size == 1:
        link.freeze(taken, f"index {int(front.reshape(-1)[0])} is taken alone", at=(x.name, axis))
    elif np.array_equal(front, np.arange(x.shape[axis])):
        link.same(x[axis], window[0])
    else:
        link.factor(taken, front.shape, window)


def renumbered(remaining: np.ndarray, x: Operand, axis: int, edit: Rewrite) -> np.ndarray:
    """`remaining` (any shape) in the numbering of x's axis after the edit."""
    found = renumber(remaining, edit.kept(x, axis), x.shape[axis])
    if found is None:
        edit.refuse(f"an index of {x.name} that is still taken would be removed")
        return remaining  # not reached
    return found
