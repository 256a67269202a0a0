"""SplitToSequence read by SequenceAt alone, at known places: a Split in disguise, as scripted torch writes it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxprune.coupling.atoms import Decline, Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.patterns import Claim, Surroundings, pattern
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.graph.view import Node

_SIZES = 1


@pattern("SplitToSequence")
def split_to_sequence(first: Node, graph: Surroundings) -> Claim | None:
    """All readers of the sequence are SequenceAt at constant places, and its sizes are known for good."""
    view, shapes, sequence = graph.view, graph.shapes, first.outputs[0]
    readers = [node for node, _ in view.consumers.get(sequence, ())]
    if view.leaves(sequence) or not readers:
        return None
    if any(at.op != "SequenceAt" or at.domain for at in readers):
        return None
    known = [first.inputs[0], *first.inputs[1:], *(name for at in readers for name in (at.inputs[1], at.outputs[0]))]
    if any(name not in shapes.shape for name in known if name):
        return None
    fixed = [*first.inputs[1:], *(at.inputs[1] for at in readers)]
    if any(name and (name not in shapes.value or shapes.varies(name)) for name in fixed):
        return None
    places = [int(shapes.value[at.inputs[1]].item()) for at in readers]

    def link(views: Sequence[NodeView], link: Link) -> None:
        _link(views[0], list(zip(views[1:], places, strict=True)), link)

    def literals(views: Sequence[NodeView], place: int, edit: Rewrite) -> None:
        if place == 0:
            _literals(views[0], edit)

    return Claim((first, *readers), link, literals)


def _link(node: NodeView, parts: Sequence[tuple[NodeView, int]], link: Link) -> None:
    x, axis = node.x, node.axis("axis", 0)
    given = node.value(_SIZES)
    keeps = given is not None or bool(node.attr("keepdims", 1))
    if given is None:
        link.freeze(x[axis], "its indices are taken one by one", at=(x.name, axis))
    ends = np.cumsum([0, *_sizes(given, x.shape[axis])])
    for reader, place in parts:
        y, start, end = reader.y, *_bounds(ends, place)
        for a in range(x.rank):
            if a != axis:
                link.same(x[a], y[a if keeps or a < axis else a - 1])
        if keeps:
            link.same(x[axis][start:end], y[axis])
        if end - start == 1:
            link.freeze(x[axis][start:end], "the only index of a part", at=(x.name, axis))


def _literals(node: NodeView, edit: Rewrite) -> None:
    x, axis = node.x, node.axis("axis", 0)
    given, now = node.value(_SIZES), edit.current(_SIZES) if len(node.inputs) > _SIZES else None
    if given is None or not edit.changed(x, axis):
        return
    kept = edit.kept(x, axis)
    sizes = np.diff(np.searchsorted(kept, np.cumsum([0, *_sizes(given, x.shape[axis])]))).tolist()
    if now is None or _sizes(now, len(kept)) != sizes:
        edit.want(_SIZES, sizes)
    else:
        edit.want(_SIZES, now)


def _sizes(given: np.ndarray | None, length: int) -> list[int]:
    """One size per part: all 1, or chunks of a scalar of which the last may be shorter, or as listed."""
    if given is None:
        return [1] * length
    if given.ndim:
        return [int(n) for n in given]
    size = max(int(given), 1)
    return [min(size, length - start) for start in range(0, length, size)]


def _bounds(ends: np.ndarray, place: int) -> tuple[int, int]:
    count = len(ends) - 1
    if not -count <= place < count:
        raise Decline(f"part {place} of {count}")
    return int(ends[place % count]), int(ends[place % count + 1])
