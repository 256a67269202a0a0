"""Which stored tensors are weights, and the real numbers that they stand for, a block of rows at a time.

Stored tensors that say how to normalise or how to decode are no weights: a BatchNormalization's running mean and
variance measure the data, a quantisation scale or zero point decodes its neighbour. Their size says nothing about
the unit, and a large variance would drown the norm of what was trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from onnxprune.coupling.parameters import is_parameter
from onnxprune.graph.decoding import BEHIND, decoder_at, is_decoding_at, scale_behind, spread, stored_at
from onnxprune.graph.packing import BYTE, WIDTHS, unpack
from onnxprune.graph.view import GraphView, Node

BLOCK = 1 << 18  # elements that are converted at a time: they stay in the cache

_STATISTICS = frozenset({3, 4})  # positions of BatchNormalization's


def is_weight_at(node: Node, position: int) -> bool:
    """Whether an operator reads a weight at this input, as far as anybody knows."""
    if node.op == "BatchNormalization" and node.domain == "":
        return position not in _STATISTICS
    return not is_decoding_at(node, position)


def uses(view: GraphView, name: str) -> Iterator[tuple[Node, int]]:
    """The (node, input position) pairs that read a value, directly or through Identity."""
    for node, position in view.consumers.get(name, ()):
        if node.op == "Identity" and node.domain == "":
            yield from uses(view, node.outputs[0])
        else:
            yield node, position


@dataclass(frozen=True)
class Weight:
    """A stored tensor (of rank 1 or more) as real numbers: `(stored - zero) * scale`, both broadcast against it."""

    stored: np.ndarray
    scale: np.ndarray | None = None
    zero: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the real numbers; what is stored has these axes, too, but for a last one inside its bytes."""
        return self.stored.shape

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Runs of rows as floats (float32, float64 where so stored): (first row, array [rows, ...])."""
        rows = self.shape[0]
        step = max(1, BLOCK * rows // max(1, math.prod(self.shape)))
        for start in range(0, rows, step):
            block = self.rows(start, step)
            if self.zero is not None:
                block = block - _rows(self.zero, start, step)
            if self.scale is not None:
                block = block * _rows(self.scale, start, step)
            yield start, block.reshape(-1, *self.shape[1:])

    def whole(self) -> np.ndarray:
        """All of it at once (float32, float64 where so stored)."""
        return np.concatenate([block for _, block in self.blocks()])

    def rows(self, start: int, count: int) -> np.ndarray:
        """Some rows of what is stored, as floats."""
        kind = np.float64 if self.stored.dtype == np.float64 else np.float32
        # A tensor begins anywhere in its file, and numpy is twice as slow on numbers that lie across words.
        return np.require(self.stored[start : start + count].astype(kind, copy=False), requirements="A")


@dataclass(frozen=True)
class PackedWeight(Weight):
    """Small integers several to a byte, in blocks that share a scale: stored uint8 [rows, ..., bytes].

    `scale` and `zero` broadcast against [rows, ..., blocks, block].
    """

    bits: int = 4
    block: int = 32

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.stored.shape, BYTE // self.bits)

    def rows(self, start: int, count: int) -> np.ndarray:
        packed = self.stored[start : start + count]
        numbers = unpack(packed, self.bits, packed.shape[-1] * BYTE // self.bits)
        return numbers.reshape(*packed.shape[:-1], -1, self.block).astype(np.float32)


def weight(view: GraphView, name: str) -> Weight | None:
    """The stored tensor `name` as a weight; None for a scalar, and for what is no parameter.

    Integers are what the operators that read them make of them, if the scale by which these decode is stored.
    Others are taken as they are stored, except int32: an accumulator's bias, of another scale than the weights beside
    it.
    """
    tensor = view.constants[name]
    if not tensor.dims or not is_parameter(tensor.data_type):
        return None
    stored = view.model.array(tensor)
    for node, position in uses(view, name):
        found = _decoded(view, stored, node, position)
        if found is not None:
            return found
    return None if tensor.data_type == TensorProto.INT32 else Weight(stored)


def _decoded(view: GraphView, stored: np.ndarray, node: Node, position: int) -> Weight | None:
    if node.op == "MatMulNBits" and position == 1:
        return _packed(view, stored, node, (2, 3), int(node.attrs["block_size"]))
    decoder = decoder_at(node, position)
    if decoder is None:
        return None
    if node.op == "GatherBlockQuantized" and stored.dtype == np.uint8:
        return _packed(view, stored, node, (decoder.scale, decoder.zero), int(node.attrs.get("block_size", 128)))
    axis, block = decoder.along(node), int(node.attrs.get("block_size", 0))
    given = scale_behind(view, node) if decoder.scale == BEHIND else stored_at(view, node, decoder.scale)
    scale = None if given is None else spread(given, stored.shape, axis, block)
    if scale is None:
        return None
    if len(node.inputs) <= decoder.zero or not node.inputs[decoder.zero]:
        return Weight(stored, scale)
    points = stored_at(view, node, decoder.zero)
    zero = None if points is None else spread(points, stored.shape, axis, block)
    return None if zero is None else Weight(stored, scale, zero)


def _packed(
    view: GraphView, stored: np.ndarray, node: Node, positions: tuple[int, int], block: int
) -> PackedWeight | None:
    """Numbers in bytes, blocks along the last axis: scale [rows, ..., blocks], zero points alike or packed likewise."""
    bits = int(node.attrs.get("bits", 4))
    given = stored_at(view, node, positions[0])
    if given is None or stored.ndim < 2 or bits not in WIDTHS:
        return None
    count = stored.shape[-1] * (BYTE // bits)
    grid = (*stored.shape[:-1], count // block)
    if count % block or given.size != math.prod(grid):
        return None
    zero: np.ndarray = np.full((1,) * (len(grid) + 1), 1 << (bits - 1), np.float32)
    points = stored_at(view, node, positions[1])
    if points is not None and _is_bytes(view, node, positions[1]) and bits < BYTE:
        packed = points.reshape(stored.shape[0], -1).astype(np.uint8)
        points = unpack(packed, bits, given.size // stored.shape[0]).astype(np.float32)
    if points is not None:
        zero = points.reshape(*grid, 1)
    return PackedWeight(stored, given.reshape(*grid, 1), zero, bits, block)


def _is_bytes(view: GraphView, node: Node, position: int) -> bool:
    return view.constants[view.identity_source(node.inputs[position])].data_type == TensorProto.UINT8


def _rows(array: np.ndarray, start: int, step: int) -> np.ndarray:
    return array[start : start + step] if len(array) > 1 else array
