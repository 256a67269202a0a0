"""What a weight is to those who read it: the one notion that masks, the checker and reports share.

A weight is a stored tensor (or several that are laid together), with the uses that consumers make of it. Each use has
the axis that its consumer sums over. What is looked up as a table, computed, packed, or read for anything else is no
weight to be zeroed, and is listed with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from onnx import TensorProto

from onnxprune.graph.view import GraphView, Node
from onnxprune.sparsity.consumption import Place, is_table, packed_at, places_of
from onnxprune.sparsity.operands import MOVING, Leaf, Operand, Unreachable, operand_at

_MATRIX = 2


@dataclass(frozen=True)
class Use:
    """One node's reading of a weight at input `position`; `axis` (not negative) of the operand is summed over.

    `groups` as of a convolution. `blocks` parts of the axis are summed apart: a transposed convolution's groups.
    """

    node: int
    title: str
    op: str
    position: int
    operand: Operand
    axis: int
    groups: int = 1
    blocks: int = 1

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The operand's."""
        return self.operand.shape

    @property
    def length(self) -> int:
        """K: how many elements are summed at each output and tap."""
        return self.shape[self.axis] // self.blocks

    @property
    def outputs(self) -> int:
        """Outputs of a convolution or product; directions or batch entries count as such."""
        return math.prod(self.shape) // (self.length * self.taps)

    @property
    def taps(self) -> int:
        """Kernel taps of a convolution, 1 of anything else."""
        return math.prod(self.shape[2:]) if "Conv" in self.op else 1

    def sheets(self, operand: np.ndarray) -> np.ndarray:
        """An array of the operand's shape as [outer, K, inner], a view where it can be: N:M groups run along K."""
        inner = math.prod(self.shape[self.axis + 1 :])
        return operand.reshape(-1, self.length, inner)

    def rows(self, operand: np.ndarray) -> np.ndarray:
        """An array of the operand's shape as [outputs, taps, K]: what blocks are laid over."""
        if "Conv" not in self.op:
            return np.moveaxis(operand, self.axis, -1).reshape(-1, 1, self.length)
        if self.axis == 1:
            return operand.reshape(self.shape[0], self.length, self.taps).transpose(0, 2, 1)
        apart = operand.reshape(self.blocks, self.length, self.shape[1], self.taps)
        return apart.transpose(0, 2, 3, 1).reshape(-1, self.taps, self.length)


@dataclass(frozen=True)
class Weight:
    """Stored tensors, by key, that are read together, and all uses of them."""

    leaves: dict[str, Leaf]
    uses: tuple[Use, ...]

    @property
    def name(self) -> str:
        """The name of the tensor; of several, joined."""
        return " + ".join(self.leaves)

    @property
    def size(self) -> int:
        return sum(math.prod(leaf.dims) for leaf in self.leaves.values())

    @property
    def dtype(self) -> int:
        return next(iter(self.leaves.values())).dtype

    def matches(self) -> list[str]:
        """What a pattern of the command line is held against: tensors and the nodes that read them."""
        return [*self.leaves, *(use.title for use in self.uses)]


@dataclass(frozen=True)
class Passed:
    """A consumer's weight that is left alone: tensor (or value), node, operator, and why."""

    name: str
    title: str
    op: str
    why: str


@dataclass(frozen=True)
class Weights:
    """What `find_weights` found, both in graph order."""

    weights: tuple[Weight, ...]
    passed: tuple[Passed, ...]


def find_weights(view: GraphView) -> Weights:
    """Every stored weight with its uses, and what consumers read that cannot be zeroed, with the reason."""
    uses: list[Use] = []
    passed: list[Passed] = []
    for node in view.nodes:
        packed = packed_at(node)
        if packed is not None:
            passed.append(Passed(node.inputs[packed[0]], node.title, node.op, packed[1]))
        for place in places_of(node):
            try:
                use = _use(view, node, place)
            except Unreachable as reason:
                passed.append(Passed(node.inputs[place.position], node.title, node.op, str(reason)))
            else:
                uses += [] if use is None else [use]
    found = []
    for weight in _together(uses):
        why = _why_not(view, weight)
        if why:
            passed += [Passed(weight.name, use.title, use.op, why) for use in weight.uses]
        else:
            found.append(weight)
    return Weights(tuple(found), tuple(passed))


def _use(view: GraphView, node: Node, place: Place) -> Use | None:
    """None where the input is data, or no matrix."""
    name = node.inputs[place.position]
    if place.only_stored and name not in view.fixed:
        return None
    operand = operand_at(view, node, place.position)
    try:
        rank = len(operand.shape)
    except (ValueError, IndexError) as error:
        raise Unreachable(f"its shape does not work out ({error})") from error
    if rank < _MATRIX or not math.prod(operand.shape) or operand.leaves[0].dtype not in NUMBERS:
        return None
    axis = place.axis % rank
    blocks = place.groups if node.op == "ConvTranspose" else 1
    return Use(node.index, node.title, node.op, place.position, operand, axis, place.groups, blocks)


NUMBERS = frozenset(
    number
    for name, number in TensorProto.DataType.items()
    if name in {"FLOAT", "FLOAT16", "DOUBLE", "BFLOAT16", "INT8", "UINT8", "INT4", "UINT4", "INT16", "UINT16", "INT2",
                "UINT2", "FLOAT4E2M1"} or name.startswith("FLOAT8E")
)  # fmt: skip
"""Element types that weights are stored in."""


def _together(uses: list[Use]) -> Iterator[Weight]:
    """Uses that share a stored tensor, in graph order."""
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            name = leader[name]
        return name

    for use in uses:
        for leaf in use.operand.leaves:
            leader[find(leaf.name)] = find(use.operand.leaves[0].name)
    bundles: dict[str, list[Use]] = {}
    for use in uses:
        bundles.setdefault(find(use.operand.leaves[0].name), []).append(use)
    for bundle in bundles.values():
        yield Weight({leaf.name: leaf for use in bundle for leaf in use.operand.leaves}, tuple(bundle))


def _why_not(view: GraphView, weight: Weight) -> str:
    """Why a weight must stay as it is; "" where it may be zeroed."""
    known = {(use.node, use.position) for use in weight.uses}
    for use in weight.uses:
        for leaf in use.operand.leaves:
            if not _same_zero(leaf, weight.leaves[leaf.name]):
                return "is read with different zero points"
    for name in weight.leaves:
        if name in view.main.inputs:
            return "is an input of the model too, which may be fed with another"
        for reader, position, read in _readers(view, name):
            if reader is None:
                return "is given out by the model"
            if is_table(view, reader, position):
                return f"is a table that {reader.title} looks up"
            if (reader.index, position) not in known and reader.op != "Shape":
                return f"is also read by {reader.op} {reader.title}, through {read}" if read != name else (
                    f"is also read by {reader.op} {reader.title}"
                )  # fmt: skip
    return ""


def _readers(view: GraphView, name: str) -> Iterator[tuple[Node | None, int, str]]:
    """Who reads a stored tensor, also through what only moves its elements; None for the model itself."""
    pending, seen = [name], {name}
    while pending:
        value = pending.pop()
        if view.leaves(value):
            yield None, 0, value
        for node, position in view.consumers.get(value, ()):
            if (position == 0 and node.op in MOVING) or (node.op == "Concat" and not node.domain):
                fresh = [made for made in node.outputs if made and made not in seen]
                seen.update(fresh)
                pending += fresh
            else:
                yield node, position, value


def _same_zero(one: Leaf, other: Leaf) -> bool:
    if one.zero is None or other.zero is None:
        return one.zero is other.zero
    return np.array_equal(one.zero, other.zero)
