"""torch.as_strided of what lies in memory in order: flatten, then Gather all elements into another shape.

torch's exporter writes it behind a mean over space, with indices computed from the batch. It is a Reshape.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxprune.coupling.atoms import Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.patterns import Claim, Surroundings, pattern
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.graph.evaluate import EVALUATORS
from onnxprune.graph.shapes import Shapes
from onnxprune.graph.view import GraphView, Node
from onnxprune.ops.reshape import link_regrouped

_LONGEST = 2**20  # elements; what follows a mean over space is far shorter
_DEEPEST = 16  # nodes between a size and the indices that are computed from it


@pattern("Reshape")
def as_strided(first: Node, graph: Surroundings) -> Claim | None:
    """Reshape to one axis, and a Gather that reads it from first to last, at the bound sizes and at others."""
    gather = graph.sole_reader(first.outputs[0])
    if gather is None or gather.op != "Gather" or gather.domain or gather.inputs[0] != first.outputs[0]:
        return None
    if not _reads_all(first, gather, graph, graph.shapes):
        return None
    other = graph.other if graph.shapes.varies(gather.inputs[1]) else None
    if other is not None and not _reads_all(first, gather, graph, other):
        return None
    target = _target(first.inputs[0], gather.outputs[0], graph)
    return None if target is None else _claim(first, gather, target)


def _reads_all(first: Node, gather: Node, graph: Surroundings, shapes: Shapes) -> bool:
    """Whether the gather takes each index of the flat tensor once, in order."""
    flat, names = shapes.shape.get(first.outputs[0]), (first.inputs[0], gather.outputs[0])
    if flat is None or len(flat) != 1 or flat[0] > _LONGEST or any(name not in shapes.shape for name in names):
        return False
    indices = _value(gather.inputs[1], graph.view, shapes, _DEEPEST)
    return indices is not None and np.array_equal(indices.reshape(-1), np.arange(flat[0]))


def _value(name: str, view: GraphView, shapes: Shapes, depth: int) -> np.ndarray | None:
    """A value that is known, or that follows from known ones and is longer than sizes usually are."""
    if name in shapes.value or not depth:
        return shapes.value.get(name)
    node = view.producer.get(name)
    if node is None or node.domain or node.op not in EVALUATORS or len(node.outputs) != 1:
        return None
    inputs = [_value(source, view, shapes, depth - 1) if source else None for source in node.inputs]
    if any(value is None and source for value, source in zip(inputs, node.inputs, strict=True)):
        return None
    try:
        return EVALUATORS[node.op].function(node, *inputs)
    except (ValueError, IndexError, TypeError, KeyError):
        return None  # not the small arithmetic that evaluate.py is for


def _target(source: str, result: str, graph: Surroundings) -> list[int] | None:
    """The shape to reshape to: 0 for an axis that is x's as it stands, -1 for another one that is dynamic."""
    x, y = graph.shapes.shape[source], graph.shapes.shape[result]
    if graph.other is None:
        return list(y)
    x_other, y_other = (graph.other.shape.get(name) for name in (source, result))
    if x_other is None or y_other is None:
        return None
    target = []
    for axis, (size, at_other) in enumerate(zip(y, y_other, strict=True)):
        as_x = axis < len(x) and (x[axis], x_other[axis]) == (size, at_other)
        target.append(size if size == at_other else 0 if as_x else -1)
    return target if target.count(-1) <= 1 else None


def _claim(first: Node, gather: Node, target: Sequence[int]) -> Claim:
    def link(views: Sequence[NodeView], link: Link) -> None:
        link_regrouped(views[0].x, views[-1].y, link)

    def literals(views: Sequence[NodeView], place: int, edit: Rewrite) -> None:
        x, y = views[0].x, views[-1].y
        if not edit.changed(x) and not edit.changed(y):
            return
        for position in range(1, len(views[place].inputs)):
            if (current := edit.current(position)) is not None:
                edit.want(position, current)  # as it is: nobody will read it
        if place:
            sizes = [new if old > 0 else old for old, new in zip(target, edit.shape(y), strict=True)]
            edit.replace("Reshape", [x.name, np.asarray(sizes, np.int64)])

    return Claim((first, gather), link, literals)
