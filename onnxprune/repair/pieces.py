"""What a node becomes in a section: a step of its program, once the shapes of what it reads are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from onnx import TensorProto, ValueInfoProto, helper, numpy_helper

from onnxprune.coupling.coupling import Coupling
from onnxprune.errors import ModelError
from onnxprune.graph.view import GraphView, Node
from onnxprune.repair.activations import Curve, curve_of
from onnxprune.repair.lowering import Lowering
from onnxprune.repair.passes import Pruned
from onnxprune.repair.places import Place
from onnxprune.repair.program import Bend, Layer, Move, Product, Step, Sum
from onnxprune.runtime.bounds import Bounds, bounds_of
from onnxprune.runtime.fixed import fixed_value
from onnxprune.runtime.ort import RunOptions, make_session, run

_MOVERS = frozenset({"Slice", "Pad", "Identity"})
_EXACT = 1 << 24  # numbers that float32 tells apart

Shape = tuple[int, ...]
Made = tuple[Step | None, Shape]
Build = Callable[[tuple[int, ...], Sequence[Shape]], Made]


@dataclass(frozen=True)
class Piece:
    """Makes a value of those numbered `reads`: `build` gives the step, for their shapes [C, *spatial], and its shape.

    No step, where they do not go together.
    """

    reads: tuple[int, ...]
    build: Build


def layer(pruned: Pruned, place: Place, number: int) -> Build:
    """What makes a layer's product with the weights of pair `number`."""
    return partial(_layer, pruned, place, number)


def pair(node: Node) -> Build | None:
    """What makes a sum or product of two values; None where the node is none."""
    return _PAIRS.get(node.op)


def alone(coupling: Coupling, view: GraphView, node: Node, axis: int) -> Build | None:
    """What makes the step of a node with one value that is no constant, its channels on `axis`; None: there is none."""
    if node.op == "BatchNormalization" and axis == 1 and not node.attrs.get("training_mode"):
        return partial(_normalise, view, node)
    bounds = bounds_of(coupling, node)
    curve = curve_of(node) if bounds is None else partial(_clipped, bounds)
    curve = _with_scalar(view, node) if curve is None else curve
    if curve is not None:
        return partial(_bend, curve)
    return partial(_move, view, node) if node.op in _MOVERS and node.inputs[0] not in view.fixed else None


def _layer(pruned: Pruned, place: Place, number: int, reads: tuple[int, ...], shapes: Sequence[Shape]) -> Made:
    lowering = Lowering(pruned.consumer(place.consumer), shapes[0][1:])
    outputs = pruned.weights(place)[1].size
    return Layer(reads, number, lowering, outputs), (outputs, *lowering.output)


def _bend(curve: Curve, reads: tuple[int, ...], shapes: Sequence[Shape]) -> Made:
    return Bend(reads, curve), shapes[0]


def _normalise(view: GraphView, node: Node, reads: tuple[int, ...], shapes: Sequence[Shape]) -> Made:
    """A BatchNormalization in its inference form, with the statistics that it has by now."""
    stored = [fixed_value(view, name) for name in node.inputs[1:]]
    channels, *spatial = shapes[0]
    columns = [value.astype(np.float64).reshape(-1, *[1] * (len(spatial) + 1)) for value in stored if value is not None]
    if [len(column) for column in columns] != [channels] * 4:
        return None, shapes[0]
    scale, shift, mean, variance = columns
    factor = scale / np.sqrt(variance + node.attrs.get("epsilon", 1e-5))
    curve = partial(_scaled, factor=factor.astype(np.float32), shift=(shift - mean * factor).astype(np.float32))
    return Bend(reads, curve), shapes[0]


def _scaled(
    x: np.ndarray, factor: np.ndarray | np.float32, shift: np.ndarray | np.float32
) -> tuple[np.ndarray, np.ndarray]:
    return x * factor + shift, np.asarray(factor)


def _pair(kind: type[Sum | Product], reads: tuple[int, ...], shapes: Sequence[Shape]) -> Made:
    return (kind(reads) if len(set(shapes)) == 1 else None), shapes[0]


_PAIRS: Mapping[str, Build] = {"Add": partial(_pair, Sum), "Mul": partial(_pair, Product)}


def _move(view: GraphView, node: Node, reads: tuple[int, ...], shapes: Sequence[Shape]) -> Made:
    index = _moved_to(view, node, shapes[0])
    return (None, shapes[0]) if index is None else (Move(reads, index, shapes[0]), index.shape)


def _clipped(bounds: Bounds, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return bounds.clip(x), (x > bounds.low) & (x < bounds.high)


def _with_scalar(view: GraphView, node: Node) -> Curve | None:
    """A sum, difference, product or quotient with one stored number."""
    if node.op not in ("Add", "Sub", "Mul", "Div") or len(node.inputs) != 2:
        return None
    is_behind = node.inputs[1] in view.fixed
    value = fixed_value(view, node.inputs[int(is_behind)])
    if value is None or value.size != 1:
        return None
    number = float(value.reshape(-1)[0])
    if node.op == "Div" and not (is_behind and number):
        return None
    if node.op in ("Mul", "Div"):
        factor, shift = (number if node.op == "Mul" else 1 / number), 0.0
    elif node.op == "Sub":
        factor, shift = (1.0, -number) if is_behind else (-1.0, number)
    else:
        factor, shift = 1.0, number
    return partial(_scaled, factor=np.float32(factor), shift=np.float32(shift))


def _moved_to(view: GraphView, node: Node, shape: tuple[int, ...]) -> np.ndarray | None:
    """Which element of a map of `shape` [C, *spatial] each of the node's output is, -1 for zero; None where it is none.

    What the node makes of numbered elements says so, in two samples: twice as much of elements that are twice as large.
    """
    numbered = np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(1, *shape)
    numbered = np.concatenate([numbered, 2 * numbered])
    stored = []
    for name in filter(None, node.inputs[1:]):
        value = fixed_value(view, name)
        if value is None:
            return None
        stored.append(numpy_helper.from_array(value, name))
    if numbered.size >= _EXACT:
        return None
    graph = helper.make_graph(
        [node.proto], "moved", [helper.make_tensor_value_info(node.proto.input[0], TensorProto.FLOAT, numbered.shape)],
        [ValueInfoProto(name=node.proto.output[0])],
        stored,
    )  # fmt: skip
    imports = [helper.make_opsetid(domain, version) for domain, version in view.opsets.items()]
    model = helper.make_model(graph, opset_imports=imports, ir_version=view.model.proto.ir_version)
    try:
        session = make_session(model.SerializeToString(), RunOptions(threads=1), optimise=False)
        (found,) = run(session, None, {node.proto.input[0]: numbered})
    except ModelError:
        return None
    if found.ndim != numbered.ndim or len(found) != len(numbered) or not np.array_equal(found[1], 2 * found[0]):
        return None
    index = found[0].astype(np.int64) - 1
    there = index[index >= 0]
    return index if len(np.unique(there)) == there.size else None
