"""From a node's input back to the tensors that are stored in the file, through operators that only move elements.

An operand is what those tensors become on the way, as a function of arrays: it takes weights to where they are
multiplied, and it takes numbers of elements there, by which anything found out about the operand finds its way back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from onnxprune.graph.decoding import decoder_at, spread, stored_at
from onnxprune.graph.view import GraphView, Node

Arrange = Callable[[Sequence[np.ndarray]], np.ndarray]


class Unreachable(Exception):
    """An operand does not consist of stored elements, and why."""


@dataclass(frozen=True)
class Leaf:
    """A stored tensor by its key; `zero` is the stored number that stands for 0, spread to its rank if not one."""

    name: str
    dims: tuple[int, ...]
    dtype: int
    zero: np.ndarray | None = None


@dataclass(frozen=True)
class Operand:
    """Stored tensors (one may be there twice) and what they become; `is_moved` is False where it is the one itself."""

    leaves: tuple[Leaf, ...]
    arrange: Arrange
    is_moved: bool = True

    def positions(self) -> np.ndarray:
        """Which element each one of the operand is, int64: counted over all leaves laid end to end."""
        start, parts = 0, []
        for leaf in self.leaves:
            size = math.prod(leaf.dims)
            parts.append(np.arange(start, start + size).reshape(leaf.dims))
            start += size
        return self.arrange(parts)

    @property
    def shape(self) -> tuple[int, ...]:
        """The operand's shape; nothing is computed for it."""
        nothing = np.empty(1, np.bool_)
        return self.arrange([np.broadcast_to(nothing, leaf.dims) for leaf in self.leaves]).shape


def operand_at(view: GraphView, node: Node, position: int) -> Operand:
    """The operand that a node reads at an input. Raises Unreachable where it is computed or comes from data."""
    found = _trace(view, node.inputs[position])
    decoder = decoder_at(node, position)
    return found if decoder is None else _decoded(view, found, node, position)


def _trace(view: GraphView, name: str) -> Operand:
    tensor = view.constants.get(name)
    if tensor is not None:
        leaf = Leaf(name, tuple(tensor.dims), tensor.data_type)
        return Operand((leaf,), lambda arrays: arrays[0], is_moved=False)
    node = view.producer.get(name)
    if node is None or name not in view.fixed:
        raise Unreachable("computed while the model runs")
    move = None if node.domain else _MOVES.get(node.op)
    if move is None:
        if node.op == "DequantizeLinear":  # also com.microsoft's, with 16 and 4 bits
            return _decoded(view, _trace(view, node.inputs[0]), node, 0)
        raise Unreachable(f"computed from what is stored, by {node.op}")
    if node.op == "Concat":
        return _concatenated(node, [_trace(view, part) for part in node.inputs])
    inner = _trace(view, node.inputs[0])
    how = move(view, node, node.outputs.index(name))
    if how is None:
        return inner
    return Operand(inner.leaves, lambda arrays: how(inner.arrange(arrays)))


def _decoded(view: GraphView, inner: Operand, node: Node, position: int) -> Operand:
    """The operand with what its leaf holds in the place of 0."""
    decoder = decoder_at(node, position)
    if decoder is None or decoder.zero >= len(node.inputs) or not node.inputs[decoder.zero]:
        return inner
    points = stored_at(view, node, decoder.zero)
    if points is None:
        raise Unreachable("its zero point is computed")
    if not points.any():
        return inner
    if len(inner.leaves) != 1 or inner.leaves[0].dtype in _REALS:
        return inner  # quantised on the way: 0 is 0 in what is stored
    (leaf,) = inner.leaves
    if points.size > 1 and (points == points.flat[0]).all():
        points = points.reshape(-1)[:1]
    if points.size > 1 and inner.is_moved:
        raise Unreachable("its zero points differ along an axis, and it is moved before they are taken off")
    zero = spread(points, leaf.dims, decoder.along(node), int(node.attrs.get("block_size", 0)))
    if zero is None:
        raise Unreachable("its zero points do not fit its shape")
    return Operand((Leaf(leaf.name, leaf.dims, leaf.dtype, zero),), inner.arrange, inner.is_moved)


_REALS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16})

Move = Callable[[np.ndarray], np.ndarray]


def _concatenated(node: Node, parts: list[Operand]) -> Operand:
    axis = int(node.attrs["axis"])

    def arrange(arrays: Sequence[np.ndarray]) -> np.ndarray:
        rest, found = list(arrays), []
        for part in parts:
            mine, rest = rest[: len(part.leaves)], rest[len(part.leaves) :]
            found.append(part.arrange(mine))
        return np.concatenate(found, axis)

    return Operand(tuple(leaf for part in parts for leaf in part.leaves), arrange)


def _same(view: GraphView, node: Node, output: int) -> Move | None:
    return None


def _transpose(view: GraphView, node: Node, output: int) -> Move:
    perm = node.attrs.get("perm")
    return lambda x: x.transpose(perm)


def _reshape(view: GraphView, node: Node, output: int) -> Move:
    target = _ints(view, node, 1, "shape")
    keeps = not node.attrs.get("allowzero", 0)

    def move(x: np.ndarray) -> np.ndarray:
        return x.reshape([x.shape[a] if size == 0 and keeps else size for a, size in enumerate(target or ())])

    return move


def _flatten(view: GraphView, node: Node, output: int) -> Move:
    axis = int(node.attrs.get("axis", 1))
    return lambda x: x.reshape(math.prod(x.shape[: axis % (x.ndim + 1) if axis < 0 else axis]), -1)


def _squeeze(view: GraphView, node: Node, output: int) -> Move:
    axes = _ints(view, node, 1, "axes")
    return lambda x: x.squeeze(None if axes is None else tuple(axes))


def _unsqueeze(view: GraphView, node: Node, output: int) -> Move:
    axes = _ints(view, node, 1, "axes") or []
    return lambda x: np.expand_dims(x, tuple(axes))


def _split(view: GraphView, node: Node, output: int) -> Move:
    axis, sizes = int(node.attrs.get("axis", 0)), _ints(view, node, 1, "split")
    count = len(node.outputs)

    def move(x: np.ndarray) -> np.ndarray:
        step = -(-x.shape[axis] // count)
        ends = np.cumsum(sizes or [step] * count)
        start = int(ends[output]) - (sizes[output] if sizes else step)
        return x[(slice(None),) * (axis % x.ndim) + (slice(start, int(ends[output])),)]

    return move


def _slice(view: GraphView, node: Node, output: int) -> Move:
    starts, ends = _ints(view, node, 1, "starts") or [], _ints(view, node, 2, "ends") or []
    axes = _ints(view, node, 3, "axes")
    steps = _ints(view, node, 4) or [1] * len(starts)

    def move(x: np.ndarray) -> np.ndarray:
        index = [slice(None)] * x.ndim
        for axis, start, end, step in zip(axes or range(len(starts)), starts, ends, steps, strict=True):
            before_first = step < 0 and end < -x.shape[axis]
            index[axis] = slice(start, None if before_first else end, step)
        return x[tuple(index)]

    return move


_MOVES: dict[str, Callable[[GraphView, Node, int], Move | None]] = {
    "Identity": _same, "Cast": _same, "QuantizeLinear": _same, "Concat": _same, "Transpose": _transpose,
    "Reshape": _reshape, "Flatten": _flatten, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Split": _split,
    "Slice": _slice,
}  # fmt: skip

MOVING = frozenset({*_MOVES, "DequantizeLinear"})
"""Operators whose first input an operand is traced back through."""


def _ints(view: GraphView, node: Node, position: int, attribute: str = "") -> list[int] | None:
    """Integers that are stored at an input, or given by an attribute in older opsets; None where there are none."""
    if attribute and attribute in node.attrs:
        return [int(v) for v in node.attrs[attribute]]
    if position >= len(node.inputs) or not node.inputs[position]:
        return None
    source = view.identity_source(node.inputs[position])
    if source not in view.constants:
        raise Unreachable(f"moved by {node.op} to where is computed from sizes")
    return [int(v) for v in view.model.array(view.constants[source]).reshape(-1)]
