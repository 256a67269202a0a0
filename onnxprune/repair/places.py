"""Which layers can be re-fitted: where their weight and bias are stored, and what they should give."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from onnx import TensorProto

from onnxprune.coupling.coupling import Coupling
from onnxprune.graph.view import GraphView, Node
from onnxprune.runtime.bounds import Bounds, bounds_behind
from onnxprune.runtime.consumers import Consumer, Source

_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16})
BIAS_INPUT = 2  # of Conv, ConvTranspose and Gemm


@dataclass(frozen=True)
class Bias:
    """A stored vector, of which `factor` times is added to what the weights give; `own`: there alone."""

    name: str
    factor: float = 1.0
    own: bool = True


@dataclass(frozen=True)
class Place:
    """A layer whose stored `weight` may change, and its `bias` where it has one of its own.

    `output` and `axis` are where it can be seen what it gives, the bias included. `shortcut` is what is added to that
    next, if anything was computed before it is, and `total` the sum. `bounds` are those of a Relu or Clip that alone
    reads the output, or the sum. `rows` is the consumer whose rows are regressed
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
    bounds: Bounds | None = None

    @property
    def pooled(self) -> bool:
        """Whether the rows are those in front of a pooling."""
        return self.rows is not self.consumer

    @property
    def free_bias(self) -> Bias | None:
        """The bias, where it may change."""
        return self.bias if self.bias is not None and self.bias.own else None


def places(coupling: Coupling, consumers: tuple[Consumer, ...]) -> list[Place]:
    """The consumers whose weights are stored as floats for them alone, in graph order."""
    layers = {consumer.node for consumer in consumers}
    found = [_place(coupling, consumer, layers) for consumer in consumers if consumer.output is not None]
    return [place for place in found if place is not None]


def _place(coupling: Coupling, consumer: Consumer, layers: Collection[int]) -> Place | None:
    view, node = coupling.view, coupling.view.nodes[consumer.node]
    if consumer.weight is None or consumer.output is None or not node.scope.is_main:
        return None
    weight = view.identity_source(consumer.weight)
    if not is_own(view, weight, node):
        return None
    output, axis = consumer.output
    if node.op != "MatMul" and len(node.inputs) > BIAS_INPUT and node.inputs[BIAS_INPUT]:
        bias = _stored_bias(coupling, node, output, axis)
        if bias is None:  # it gives more than its weights and a known vector
            return None
    else:
        bias, output = _added_bias(coupling, output, axis)
    shortcut, total = _shortcut(coupling, output, layers)
    rows, bounds = _before_pooling(coupling, consumer), bounds_behind(coupling, output if total is None else total)
    return Place(consumer, rows, weight, bias, output, axis, shortcut, total, bounds)


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


def _stored_bias(coupling: Coupling, node: Node, output: str, axis: int) -> Bias | None:
    """The bias of a Conv, ConvTranspose or Gemm; None where it is computed, or no vector along the outputs."""
    view, shapes = coupling.view, coupling.shapes.shape
    name = view.identity_source(node.inputs[BIAS_INPUT])
    factor = float(node.attrs.get("beta", 1.0)) if node.op == "Gemm" else 1.0
    along = 0 if node.op != "Gemm" else len(shapes.get(name, ())) - 2 + axis
    if not _is_vector(coupling, name, along, shapes[output][axis]):
        return None
    return Bias(name, factor, own=factor != 0 and is_own(view, name, node))


def _added_bias(coupling: Coupling, output: str, axis: int) -> tuple[Bias | None, str]:
    """The bias that an Add behind the layer gives it, and that Add's output; or the layer's own output."""
    view, shapes = coupling.view, coupling.shapes.shape
    readers = view.consumers.get(output, ())
    if len(readers) == 1 and readers[0][0].op == "Add" and not view.leaves(output):
        add, position = readers[0]
        name = view.identity_source(add.inputs[1 - position])
        along = axis - len(shapes[output]) + len(shapes.get(name, ()))
        if _is_vector(coupling, name, along, shapes[output][axis]) and is_own(view, name, add):
            return Bias(name), add.outputs[0]
    return None, output


def _is_vector(coupling: Coupling, name: str, axis: int, size: int) -> bool:
    """Whether a stored tensor has `size` floats along an axis, and no others."""
    shape, tensor = coupling.shapes.shape.get(name, ()), coupling.view.constants.get(name)
    if tensor is None or tensor.data_type not in _FLOATS or not 0 <= axis < len(shape):
        return False
    return bool(shape[axis] == size == int(np.prod(shape)))


def _shortcut(coupling: Coupling, output: str, layers: Collection[int]) -> tuple[str | None, str | None]:
    """What an Add that alone reads `output` adds to it, and the sum; of what no later one of the `layers` gives."""
    view, shapes = coupling.view, coupling.shapes.shape
    readers = view.consumers.get(output, ())
    if len(readers) != 1 or readers[0][0].op != "Add" or view.leaves(output):
        return None, None
    add, position = readers[0]
    other = add.inputs[1 - position]
    if other in view.fixed or other == output or not _is_known_by(view, other, view.producer[output], layers):
        return None, None
    if shapes.get(add.outputs[0]) != shapes.get(output):  # it is spread over more places than the layer has
        return None, None
    return other, add.outputs[0]


def _is_known_by(view: GraphView, name: str, mine: Node, layers: Collection[int]) -> bool:
    """Whether a value comes from nothing but what stands before a node, as far as weights have a part in it.

    Exporters put a shortcut's Slice and Pad behind the layers that it leads around.
    """
    pending, seen = [name], {name}
    while pending:
        node = view.producer.get(pending.pop())
        if node is None:
            return False  # an input of the model is no shortcut
        if (
            not node.scope.is_main
            or node is mine
            or (node.index > mine.index and (node.index in layers or node.bodies))
        ):
            return False
        if node.index > mine.index:
            fresh = [read for read in node.inputs if read and read not in view.fixed and read not in seen]
            pending += fresh
            seen |= {*fresh}
    return True


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
