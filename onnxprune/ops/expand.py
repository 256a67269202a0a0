"""Operators that repeat elements: Expand along axes of length 1, Tile along any."""

from __future__ import annotations

from onnxprune.coupling.atoms import Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.ops.elementwise import broadcast

_DYNAMIC = "how often it is repeated depends on a dynamic dimension"


def _shape_input(node: NodeView) -> list[int]:
    return node.ints(1) or []


@rule("Expand")
def expand(node: NodeView, link: Link) -> None:
    """y's axis is x's where they are as long; a repeated axis is free, its length follows in the shape input."""
    x, y = node.x, node.y
    broadcast(x, y, link)
    stated = _shape_input(node)
    varying = node.varying(1, len(stated))
    for axis in range(y.rank):
        mine, element = axis - y.rank + x.rank, axis - y.rank + len(stated)
        repeated = mine < 0 or x.shape[mine] != y.shape[axis]
        if repeated and element >= 0 and varying[element]:
            link.freeze(y[axis], _DYNAMIC)
        else:
            y.ignore(axis)


@expand.literals
def _(node: NodeView, edit: Rewrite) -> None:
    stated = _shape_input(node)
    new = edit.shape(node.y)
    # a 1 in the shape input says nothing: x's own length holds there
    edit.want(
        1, [size if size == 1 else length for size, length in zip(stated, new[len(new) - len(stated) :], strict=True)]
    )


@rule("Tile")
def tile(node: NodeView, link: Link) -> None:
    """y's axis is (repeats, x's axis): an index of x goes with all its copies, a repeat with a copy of each index."""
    x, y, repeats = node.x, node.y, _repeats(node)
    varying = node.varying(1, x.rank)
    for axis, times in enumerate(repeats):
        if times == 1:
            link.same(x[axis], y[axis])
            continue
        copies = link.fresh(times)
        if varying[axis]:
            link.freeze(copies, _DYNAMIC, at=(y.name, axis))
        x.ignore(axis)
        link.factor(y[axis], (times, x.shape[axis]), (copies, x[axis]))


def _repeats(node: NodeView) -> list[int]:
    """Copies per axis. Opset 1 gives a count and one axis; opset 6 and later a count per axis."""
    given = _shape_input(node)
    if node.opset >= 6:
        return given
    axis, tiles = (node.ints(2) or [0])[0], given[0]
    return [tiles if a == axis else 1 for a in range(node.x.rank)]


@tile.literals
def _(node: NodeView, edit: Rewrite) -> None:
    old, new = edit.shape(node.x), edit.shape(node.y)
    repeats = [after // before for after, before in zip(new, old, strict=True)]
    edit.want(1, repeats if node.opset >= 6 else [repeats[(node.ints(2) or [0])[0]]])
