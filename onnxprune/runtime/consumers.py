"""The consumers of units: where an axis is summed over, what is read there, and with which weights.

A contraction (coupling.links.contracts) says that a node sums over an axis of an input. That is where a removal is
felt, and so what criteria judge by and repairs adjust. This module knows of each such node where its data comes from
(a Source), and, where it is a product with stored weights, how data and weights become matrices: `rows @ matrix` is
what the node gives before its bias (runtime/rows.py makes the rows).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from onnxprune.coupling.atoms import Operand
from onnxprune.coupling.coupling import Coupling
from onnxprune.coupling.nodeview import NodeView
from onnxprune.errors import SettingError
from onnxprune.runtime.windows import Window

_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16})
_MATRIX = 2
_IMAGE = 3  # least rank of a convolution's input


@dataclass(frozen=True)
class Source:
    """An axis of a value that is computed from data; `zero` and `scale` are what decodes it where it is quantised."""

    tensor: str
    axis: int
    size: int
    dtype: int
    zero: str | None = None
    scale: str | None = None

    @property
    def key(self) -> str:
        """`tensor:axis`, by which statistics are found."""
        return f"{self.tensor}:{self.axis}"


@dataclass(frozen=True)
class Consumer:
    """A node that sums over an axis of its input number `position`.

    `weight` is the name of the stored (or decoded) weight that the axis meets on its axis `weight_axis`, None where
    there is none; `other` is the data that it meets instead. `groups` as of a convolution: block b of the axis meets
    block b of the weight alone. `window` is a convolution's geometry.
    `output` is (name, axis of what the weights put out) where it is `gain * rows @ matrix` and a bias, else None.
    """

    node: int
    title: str
    op: str
    position: int
    source: Source
    weight: str | None = None
    weight_axis: int = 0
    other: Source | None = None
    groups: int = 1
    window: Window | None = None
    output: tuple[str, int] | None = None
    gain: float = 1.0

    @property
    def features(self) -> int:
        """Columns of one block's rows: channels of a block times taps."""
        return self.source.size // self.groups * (self.window.taps if self.window else 1)

    @property
    def key(self) -> str:
        """Names the rows: consumers that read the same axis through the same window share it."""
        if self.window is None or (self.window.is_point and self.groups == 1):
            return self.source.key if self.groups == 1 else f"{self.source.key}/{self.groups}"
        return f"{self.source.key}/{self.groups}/{self.window}"

    def matrix(self, weight: np.ndarray) -> np.ndarray:
        """The weight as [groups, features, outputs of a block], features by channel, then tap. A view where it can be.

        Only for consumers with an `output`.
        """
        if self.window is None:
            return np.moveaxis(weight, self.weight_axis, 0)[None]
        per_block = self.source.size // self.groups
        if self.window.transposed:
            parts = weight.reshape(self.groups, per_block, weight.shape[1], self.window.taps)
            return parts.transpose(0, 1, 3, 2).reshape(self.groups, self.features, weight.shape[1])
        return weight.reshape(self.groups, weight.shape[0] // self.groups, self.features).transpose(0, 2, 1)

    def from_matrix(self, matrix: np.ndarray, like: np.ndarray) -> np.ndarray:
        """The weight, in the shape and type of `like`, whose matrix is `matrix`."""
        if self.window is None:
            weight = np.moveaxis(matrix[0], 0, self.weight_axis)
        elif self.window.transposed:
            parts = matrix.reshape(self.groups, self.source.size // self.groups, self.window.taps, like.shape[1])
            weight = parts.transpose(0, 1, 3, 2).reshape(like.shape)
        else:
            weight = matrix.transpose(0, 2, 1).reshape(like.shape)
        return np.ascontiguousarray(weight.astype(like.dtype))

    def reach(self, weight: np.ndarray, measure: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Per index of the axis, `measure` of the weights that it meets, summed (float64 [size])."""
        if self.window is not None and not self.window.transposed:
            sums = measure(self.matrix(weight)).sum(axis=2, dtype=np.float64)
            return np.asarray(sums.reshape(self.source.size, self.window.taps).sum(axis=1))
        others = tuple(axis for axis in range(weight.ndim) if axis != self.weight_axis)
        return np.asarray(measure(weight).sum(axis=others, dtype=np.float64))


def consumers_of(coupling: Coupling, *, every: bool = False) -> tuple[Consumer, ...]:
    """Every consumer of every group whose data can be had by running the model, in graph order.

    With `every`, also those of axes that must stay.
    """
    within = _unit_classes(coupling)
    there = set(coupling.view.inputs) | {name for node in coupling.view.graph.node for name in node.output if name}
    found: dict[tuple[int, int, int], Consumer] = {}
    for index, position, axis, zero in coupling.links.contracts:
        node = coupling.sites[index].node
        place = _data_place(node, position, axis)
        if place is None or (index, *place) in found or node.op == _QUANTISER:
            continue  # a quantiser hands on what it reads, and its readers are consumers themselves
        x = node.input(place[0])
        consumer = _consumer(coupling, node, x, place[1], zero)
        if consumer.source.tensor in there and (every or _is_prunable(coupling, x, place[1], within)):
            found[index, *place] = consumer
    return tuple(found[key] for key in sorted(found))


def sources_of(consumers: tuple[Consumer, ...]) -> tuple[Source, ...]:
    """The distinct sources of consumers, in order."""
    found: dict[str, Source] = {}
    for consumer in consumers:
        for source in (consumer.source, consumer.other):
            if source is not None:
                found.setdefault(source.key, source)
    return tuple(found.values())


def classes_of(coupling: Coupling, source: Source) -> np.ndarray:
    """The class of each index of a source's axis. Raises SettingError where the statistics are of another model."""
    slot = coupling.atoms.slot_at((source.tensor, -1, -1), source.axis)
    if slot is None or coupling.atoms.slots[slot].size != source.size:
        raise SettingError(
            f"the statistics are of another model: {source.key} has not {source.size} indices here",
            remedy="calibrate the model that is scored",
        )
    place = coupling.atoms.slots[slot]
    return np.asarray(coupling.solution.label[place.start : place.start + place.size])


def output_classes(coupling: Coupling, consumer: Consumer) -> np.ndarray | None:
    """For a grouped convolution the classes of each block's outputs, [blocks, outputs of a block]; else None.

    Without groups no output goes with a single input, and none is swallowed (Tally.add).
    """
    if consumer.groups == 1 or consumer.window is None:
        return None
    output = coupling.sites[consumer.node].node.y
    slot = coupling.atoms.slot_at(output.key, consumer.source.axis)
    if slot is None:
        return None
    place = coupling.atoms.slots[slot]
    return np.asarray(coupling.solution.label[place.start : place.start + place.size].reshape(consumer.groups, -1))


def _unit_classes(coupling: Coupling) -> np.ndarray:
    """Classes (bool) that go with a unit of some group."""
    roots = np.zeros(coupling.solution.classes, bool)
    for group in coupling.units.groups:
        roots[group.roots] = True
    within = np.zeros(coupling.solution.classes, bool)
    within[coupling.units.below[roots[coupling.units.root]]] = True
    return within


def _is_prunable(coupling: Coupling, x: Operand, axis: int, within: np.ndarray) -> bool:
    index = coupling.atoms.slot_at(x.key, axis)
    if index is None:
        return False
    slot = coupling.atoms.slots[index]
    return bool(within[coupling.solution.label[slot.start : slot.start + slot.size]].any())


def _data_place(node: NodeView, position: int, axis: int) -> tuple[int, int] | None:
    """Where the data comes in: the contracted input, or the other side of a product whose left side is stored."""
    x = node.inputs[position]
    if x is None:
        return None
    if not x.is_constant:
        return position, axis
    other = node.optional(1)
    if position == 0 and node.op in ("MatMul", "Gemm") and other is not None and not other.is_constant:
        return 1, _inner(node, other, 1)
    return None


def _inner(node: NodeView, x: Operand, position: int) -> int:
    """The axis of a matrix product's operand that is summed over."""
    if node.op in ("Gemm", "QGemm"):
        return int(bool(node.attr("transA" if position == 0 else "transB", 0))) ^ (1 - position)
    if x.rank == 1:
        return 0
    flip = bool(node.attr("transA" if position == 0 else "transB", 0)) if node.op == "FusedMatMul" else False
    return x.rank - 1 - (int(flip) ^ position)


_QUANTISER = "DynamicQuantizeLinear"
_WEIGHT_AT = {"QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3}
_CONVOLUTIONS = frozenset({"Conv", "ConvInteger", "QLinearConv", "FusedConv", "NhwcConv", "NhwcFusedConv"})
_PRODUCTS = frozenset({"MatMul", "Gemm", "QLinearMatMul", "MatMulInteger", "QGemm", "FusedMatMul"})


def _consumer(coupling: Coupling, node: NodeView, x: Operand, axis: int, zero: int | None) -> Consumer:
    source = _source(node, x, axis, zero)
    bare = Consumer(node.index, node.title, node.op, x.position, source)
    if node.op in _CONVOLUTIONS or node.op == "ConvTranspose":
        return _convolution(node, x, bare)
    if node.op in _PRODUCTS:
        return _product(node, x, bare)
    return _by_labels(coupling, node, x, bare)


def _source(node: NodeView, x: Operand, axis: int, zero: int | None = None) -> Source:
    """Where the data is read: before a quantiser whose scale follows the batch, in real numbers, else at the input."""
    maker = node.maker(x.position)
    if maker is not None and maker.op == _QUANTISER:
        return Source(maker.inputs[0], axis, x.shape[axis], TensorProto.FLOAT)
    scale = None
    if zero is not None:
        # The linear operators have x, its scale and its zero point side by side; the integer ones have no scale.
        before = node.inputs[zero - 1]
        if zero == x.position + 2 and before is not None and before.dtype in _FLOATS:
            scale = before.name
    name = None if zero is None or node.inputs[zero] is None else node.node.inputs[zero]
    return Source(x.name, axis, x.shape[axis], x.dtype, name, scale)


def _convolution(node: NodeView, x: Operand, bare: Consumer) -> Consumer:
    w = node.optional(_WEIGHT_AT.get(node.op, 1))
    if w is None or not w.is_constant or x.rank < _IMAGE or w.rank != x.rank:
        return bare
    transposed = node.op == "ConvTranspose"
    window = Window.of(node.node.attrs, w.shape[2:], transposed=transposed)
    linear = node.op in ("Conv", "ConvTranspose") and not bare.source.zero
    return Consumer(
        bare.node, bare.title, bare.op, bare.position, bare.source, w.name, 0 if transposed else 1,
        groups=int(node.attr("group", 1)), window=window,
        output=(node.y.name, bare.source.axis) if linear else None,
    )  # fmt: skip


def _product(node: NodeView, x: Operand, bare: Consumer) -> Consumer:
    other = _WEIGHT_AT.get(node.op, 1) if x.position == 0 else 0
    w = node.optional(other)
    if w is None:
        return bare
    inner = _inner(node, w, min(other, 1))
    if not w.is_constant:
        return Consumer(
            bare.node, bare.title, bare.op, bare.position, bare.source,
            other=_source(node, w, inner),
        )  # fmt: skip
    linear = w.rank == _MATRIX and node.op in ("MatMul", "Gemm") and not bare.source.zero
    # A' B' + C: the weights' other axis is the last of the output where they stand right, the one before where left.
    axis = (1 if other else 0) if node.op == "Gemm" else node.y.rank - (1 if other or x.rank == 1 else _MATRIX)
    return Consumer(
        bare.node, bare.title, bare.op, bare.position, bare.source, w.name, inner,
        output=(node.y.name, axis) if linear else None,
        gain=float(node.attr("alpha", 1.0)) if node.op == "Gemm" else 1.0,
    )  # fmt: skip


def _by_labels(coupling: Coupling, node: NodeView, x: Operand, bare: Consumer) -> Consumer:
    """For all other operators: the one stored operand, if there is one, that has the axis's very indices."""
    label, atoms = coupling.solution.label, coupling.atoms
    mine = label[x[bare.source.axis]]
    places = []
    for w in node.inputs:
        if w is None or not w.is_constant or math.prod(w.shape) == max(w.shape, default=0):
            continue
        for axis, size in enumerate(w.shape):
            slot = atoms.slot_at(w.key, axis)
            if size == len(mine) and slot is not None and np.array_equal(label[w[axis]], mine):
                places.append((w.name, axis))
    if len(places) != 1:
        return bare
    return Consumer(bare.node, bare.title, bare.op, bare.position, bare.source, *places[0])
