"""GatherND: every element of y's leading axes is what a tuple of indices names of x's leading axes."""

from __future__ import annotations

import numpy as np

from onnxprune.coupling.atoms import Link, Operand
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.ops.gather import known_indices, link_chosen, renumbered


@rule("GatherND")
def gather_nd(node: NodeView, link: Link) -> None:
    """data [*B, D1, ..., Dk, *T], indices [*B, *I, k] -> y [*B, *I, *T]; b = len(B) is `batch_dims`."""
    x, indices, y = node.x, node.input(1), node.y
    batch, depth = node.attr("batch_dims", 0), indices.shape[-1]
    link_tail(x, batch + depth, y, indices.rank - 1, link)
    if batch == 0 and (chosen := fixed_tuples(node)) is not None:
        indices.ignore()
        link_tuples(x, chosen, y, link)
        return
    why = "its indices are addressed by data"
    for axis in range(batch):
        link.same(x[axis], y[axis])
        link.same(x[axis], indices[axis])
    for axis in range(batch, batch + depth):
        link.freeze(x[axis], why, at=(x.name, axis))
    for axis in range(batch, indices.rank - 1):
        link.same(indices[axis], y[axis])
        if node.varies(1):
            link.freeze(y[axis], "as long as a dynamic dimension says")
    link.freeze(indices[-1], "a tuple of indices")


@gather_nd.literals
def _(node: NodeView, edit: Rewrite) -> None:
    if node.attr("batch_dims", 0) == 0:
        rewrite_tuples(node, node.y, edit)


def fixed_tuples(node: NodeView) -> np.ndarray | None:
    """The indices (input 1) where they are known for good, None where data or a dynamic dimension decides them."""
    return None if node.varies(1) else known_indices(node, 1)


def link_tail(x: Operand, start: int, y: Operand, target: int, link: Link) -> None:
    """The axes of x from `start` on are those of y from `target` on."""
    for axis in range(start, x.rank):
        link.same(x[axis], y[target + axis - start])


def link_tuples(x: Operand, chosen: np.ndarray, y: Operand, link: Link) -> None:
    """The leading axes of y, of shape `chosen.shape[:-1]`, hold what the tuples `chosen` name of x's leading axes.

    Tuples of one index are a list of rows of any shape. Longer ones are followed where they span a block, each index
    running along an axis of its own; otherwise what they touch stays.
    """
    depth, window = chosen.shape[-1], range(chosen.ndim - 1)
    if depth == 1:
        link_chosen(x, 0, chosen[..., 0], [y[a] for a in window], link)
        return
    along = block_axes(chosen)
    if along is None:
        why = "tuples of indices that span no block"
        for operand, axes in ((x, range(depth)), (y, window)):
            for axis in axes:
                link.freeze(operand[axis], why, at=(operand.name, axis))
        return
    for axis in window:
        y.ignore(axis)
    for k, run in enumerate(along):
        if run is None:
            link_chosen(x, k, chosen[..., k].reshape(-1)[:1], [], link)
        else:
            line = np.moveaxis(chosen[..., k], run, 0).reshape(chosen.shape[run], -1)[:, 0]
            link_chosen(x, k, line, [y[run]], link)


def block_axes(chosen: np.ndarray) -> list[int | None] | None:
    """Per index of the tuples the one axis of `chosen` along which it runs, None for an index that is constant.

    None where an index runs along several axes, two along the same, or an axis longer than 1 has none.
    """
    along: list[int | None] = []
    for k in range(chosen.shape[-1]):
        column = chosen[..., k]
        runs = [a for a in range(column.ndim) if (column != column.take([0], axis=a)).any()]
        if len(runs) > 1:
            return None
        along.append(runs[0] if runs else None)
    named = [a for a in along if a is not None]
    needed = {a for a in range(chosen.ndim - 1) if chosen.shape[a] > 1}
    return along if len(set(named)) == len(named) and set(named) == needed else None


def rewrite_tuples(node: NodeView, window: Operand, edit: Rewrite) -> None:
    """State the indices (input 1) after an edit; `window` has their leading axes in front."""
    chosen = fixed_tuples(node)
    if chosen is None:
        return
    depth = chosen.shape[-1]
    if not any(edit.changed(node.x, axis) for axis in range(depth)):
        return
    rows = chosen[np.ix_(*[edit.kept(window, a) for a in range(chosen.ndim - 1)])]
    edit.want(1, np.stack([renumbered(rows[..., k], node.x, k, edit) for k in range(depth)], axis=-1))
