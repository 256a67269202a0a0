"""Layers that can be fitted: a consumer with its weight, what follows it, and in which order layers come.

A layer is a consumer that gives `rows @ matrix` (runtime/consumers.py). What follows it at once belongs to it: the
addition of a stored vector is its bias, and where its output is then added to a shortcut, the layer can make up for
what the shortcut has lost. Layers of one stage do not read each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.graph.view import GraphView, Node
from onnxprune.runtime.bounds import bounds_behind
from onnxprune.runtime.consumers import Consumer, consumers_of
from onnxprune.runtime.following import Aim
from onnxprune.sparsity.weights import Use, Weight, Weights

_BIAS_AT = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}


@dataclass(frozen=True)
class Bias:
    """A stored vector that is added to a layer's output; `is_own` where nothing else reads it, so that it may change.

    `added_by` is the node that adds it, the layer's own or an Add behind it.
    """

    name: str
    values: np.ndarray
    is_own: bool


@dataclass(frozen=True)
class Layer:
    """`weight` and `use` are the consumer's; `stage` counts the layers in front of it, along the longest way.

    `aim` is where the output goes, bias and shortcut included.
    """

    consumer: Consumer
    weight: Weight
    use: Use
    bias: Bias | None
    aim: Aim
    stage: int


def find_layers(coupling: Coupling, weights: Weights) -> tuple[Layer, ...]:
    """The layers of the main graph whose weight is stored in real numbers and read by them alone, by stage."""
    view = coupling.view
    consumers = {(c.node, _weight_at(c)): c for c in consumers_of(coupling, every=True) if c.output is not None}
    layers: dict[int, tuple[Consumer, Weight, Use]] = {}
    for weight in weights.weights:
        if len(weight.uses) != 1 or len(weight.leaves) != 1:
            continue
        (use,) = weight.uses
        consumer = consumers.get((use.node, use.position))
        array = view.model.array(view.constants[weight.name])
        if consumer is not None and view.nodes[use.node].scope.is_main and array.dtype.kind in "fV":
            layers[use.node] = consumer, weight, use
    depth = depths(view, set(layers))
    found = []
    for node, (consumer, weight, use) in layers.items():
        bias, target, minus = _behind(coupling, view.nodes[node], depth)
        stage = depth[view.nodes[node].outputs[0]] - 1
        found.append(
            Layer(consumer, weight, use, bias, Aim(consumer, target, minus, bounds_behind(coupling, target)), stage)
        )
    return tuple(sorted(found, key=lambda layer: (layer.stage, layer.consumer.node)))


def _weight_at(consumer: Consumer) -> int:
    """The input at which the consumer's node reads its weight."""
    return 1 if consumer.position == 0 else 0


def depths(view: GraphView, layers: set[int]) -> dict[str, int]:
    """Per value how many layers it has gone through, along the longest way."""
    depth: dict[str, int] = {}
    for node in view.nodes:
        read = [depth.get(name, 0) for name in node.inputs]
        read += [depth.get(name, 0) for body in node.bodies.values() for name in body.outputs]
        here = max(read, default=0) + (node.index in layers)
        depth.update((name, here) for name in node.outputs if name)
    return depth


def _behind(coupling: Coupling, node: Node, depth: dict[str, int]) -> tuple[Bias | None, str, str | None]:
    """A layer's bias, the value that its output ends up in, and the shortcut that is added on the way."""
    view, value = coupling.view, node.outputs[0]
    bias = _own_bias(view, node)
    if bias is None and (add := _added(view, value)) is not None:
        other = add.inputs[1 - list(add.inputs).index(value)]
        vector = _vector(view, other)
        if vector is not None and _same_shape(coupling, value, add.outputs[0]):
            bias, value = vector, add.outputs[0]
    if (add := _added(view, value)) is not None:
        other = add.inputs[1 - list(add.inputs).index(value)]
        if (
            other not in view.fixed
            and other != value
            and depth.get(other, 0) < depth[value]
            and _same_shape(coupling, value, add.outputs[0])
            and _same_shape(coupling, value, other)
        ):
            return bias, add.outputs[0], other
    return bias, value, None


def _added(view: GraphView, value: str) -> Node | None:
    """The Add that alone reads a value."""
    readers = view.consumers.get(value, [])
    if len(readers) != 1 or view.leaves(value):
        return None
    node = readers[0][0]
    return node if node.op == "Add" and not node.domain and node.scope.is_main else None


def _same_shape(coupling: Coupling, one: str, other: str) -> bool:
    shapes = coupling.shapes.shape
    return one in shapes and shapes.get(other) == shapes[one]


def _own_bias(view: GraphView, node: Node) -> Bias | None:
    position = _BIAS_AT.get(node.op)
    if position is None or position >= len(node.inputs) or not node.inputs[position]:
        return None
    found = _vector(view, node.inputs[position])
    if found is not None and float(node.attrs.get("beta", 1.0)) != 1:
        return Bias(found.name, found.values * node.attrs["beta"], False)
    return found


def _vector(view: GraphView, name: str) -> Bias | None:
    """A stored vector of real numbers, None for anything else."""
    source = view.identity_source(name)
    tensor = view.constants.get(source)
    if tensor is None or max(tensor.dims, default=0) != np.prod(tensor.dims, dtype=np.int64):
        return None
    values = view.model.array(tensor)
    if values.dtype.kind not in "fV" or (tensor.dims and tensor.dims[-1] != values.size):
        return None
    is_own = source == name and len(view.consumers.get(source, ())) == 1 and not view.leaves(source)
    return Bias(source, values.astype(np.float64).reshape(-1), is_own)
