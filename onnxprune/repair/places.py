"""Which layers can be re-fitted: where their weight and bias are stored, and what they should give."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from onnx import TensorProto

from onnxprune.coupling.coupling import Coupling
from onnxprune.graph.view import GraphView, Node
from onnxprune.runtime.consumers import Consumer, Source

_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16})
_BIAS_INPUT = 2  # of Conv, ConvTranspose and Gemm


@dataclass(frozen=True)
class Bias:
    """A stored vector, of which `factor` times is added to what the weights give."""

    name: str
    factor: float = 1.0


@dataclass(frozen=True)
class Place:
    """A layer whose stored `weight` may change, and its `bias` where it has one of its own.

    `output` and `axis` are where it can be seen what it gives, the bias included. `shortcut` is what is added to that
    next, if anything was computed before it is, and `total` the sum. `rows` is the consumer whose rows are regressed
    on: the layer itself, or the same weights in front of a pooling that comes before it (`pooled`).
    """

    consumer: Consumer
    rows: Consumer
    weight: str
    bias: Bias | None
    output: str
    axis: int
    shortcut: str | None = None
    total: str | None = None

    @property
    def pooled(self) -> bool:
        """Whether the rows are those in front of a pooling."""
        return self.rows is not self.consumer


def places(coupling: Coupling, consumers: tuple[Consumer, ...]) -> list[Place]:
    """The consumers whose weights are stored as floats for them alone, in graph order."""
    found = [_place(coupling, consumer) for consumer in consumers if consumer.output is not None]
    return [place for place in found if place is not None]


def _place(coupling: Coupling, consumer: Consumer) -> Place | None:
    view, node = coupling.view, coupling.view.nodes[consumer.node]
    if consumer.weight is None or consumer.output is None or not node.scope.is_main:
        return None
    weight = view.identity_source(consumer.weight)
    if not is_own(view, weight, node):
        return None
    output, axis = consumer.output
    bias, output = _bias(coupling, node, output, axis)
    shortcut, total = _shortcut(view, output)
    return Place(consumer, _before_pooling(coupling, consumer), weight, bias, output, axis, shortcut, total)


def is_own(view: GraphView, name: str, node: Node) -> bool:
    """Whether a stored float tensor is read by that node alone, directly or through Identity."""
    tensor = view.constants.get(name)
    if tensor is None or tensor.data_type not in _FLOATS or name in view.outputs:
        return False
    pending, readers = [name], []
    while pending:
        for reader, _ in view.consumers.get(pending.pop(), ()):
            if reader.op == "Identity" and reader.domain == "":
                pending += reader.outputs
            else:
                readers.append(reader)
    return len(readers) == 1 and readers[0] is node


def _bias(coupling: Coupling, node: Node, output: str, axis: int) -> tuple[Bias | None, str]:
    """The layer's bias, and the value that has it: the layer's output, or that of an Add behind it."""
    view, shapes = coupling.view, coupling.shapes.shape
    size = shapes[output][axis]
    if node.op != "MatMul" and len(node.inputs) > _BIAS_INPUT and node.inputs[_BIAS_INPUT]:
        name = view.identity_source(node.inputs[_BIAS_INPUT])
        factor = float(node.attrs.get("beta", 1.0)) if node.op == "Gemm" else 1.0
        along = 0 if node.op != "Gemm" else len(shapes.get(name, ())) - 2 + axis
        return (Bias(name, factor) if _is_vector(coupling, name, node, along, size) and factor else None), output
    readers = view.consumers.get(output, ())
    if len(readers) == 1 and readers[0][0].op == "Add" and not view.leaves(output):
        add, position = readers[0]
        name = view.identity_source(add.inputs[1 - position])
        along = axis - len(shapes[output]) + len(shapes.get(name, ()))
        if name in view.constants and _is_vector(coupling, name, add, along, size):
            return Bias(name), add.outputs[0]
    return None, output


def _is_vector(coupling: Coupling, name: str, reader: Node, axis: int, size: int) -> bool:
    """Whether a stored tensor has `size` numbers along an axis, and is that reader's alone."""
    shape = coupling.shapes.shape.get(name, ())
    if name not in coupling.view.constants or not 0 <= axis < len(shape):
        return False
    return shape[axis] == size == int(np.prod(shape)) and is_own(coupling.view, name, reader)


def _shortcut(view: GraphView, output: str) -> tuple[str | None, str | None]:
    """What an Add that alone reads `output` adds to it, and the sum; of what is computed before `output` is."""
    readers = view.consumers.get(output, ())
    if len(readers) != 1 or readers[0][0].op != "Add" or view.leaves(output):
        return None, None
    add, position = readers[0]
    other = add.inputs[1 - position]
    made, mine = view.producer.get(other), view.producer[output]
    if other in view.fixed or other == output or made is None or made.index > mine.index or not made.scope.is_main:
        return None, None
    return other, add.outputs[0]


_KEEPERS = frozenset({"Flatten", "Reshape", "Squeeze", "Identity", "Dropout"})


def _before_pooling(coupling: Coupling, consumer: Consumer) -> Consumer:
    """The same weights in front of a pooling over all places: there are as many rows as places, not one a sample.

    A mean of products is the product with the mean, so what is best there is good behind it, too.
    """
    if consumer.window is not None or consumer.groups != 1:
        return consumer
    view, shapes = coupling.view, coupling.shapes.shape
    name = consumer.source.tensor
    while (node := view.producer.get(name)) is not None and node.op in _KEEPERS and node.inputs[0]:
        name = node.inputs[0]
    shape = shapes.get(node.inputs[0], ()) if node is not None else ()
    if node is None or len(shape) < 3 or shape[1] != consumer.source.size:
        return consumer
    if not (node.op == "GlobalAveragePool" or _is_spatial_mean(coupling, node, len(shape))):
        return consumer
    source = Source(node.inputs[0], 1, shape[1], coupling.shapes.dtype.get(node.inputs[0], TensorProto.FLOAT))
    return replace(consumer, source=source, output=(node.inputs[0], 1))


def _is_spatial_mean(coupling: Coupling, node: Node, rank: int) -> bool:
    if node.op != "ReduceMean":
        return False
    axes = node.attrs.get("axes")
    if axes is None and len(node.inputs) > 1:
        axes = coupling.shapes.value.get(node.inputs[1])
    return axes is not None and sorted(int(a) % rank for a in np.reshape(axes, -1)) == list(range(2, rank))
