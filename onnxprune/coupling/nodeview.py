"""A node as its rule sees it: operands with ids and shapes, decoded attributes, known values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from onnxprune.coupling.atoms import Atoms, Decline, Operand
from onnxprune.graph.shapes import Shapes
from onnxprune.graph.view import GraphView, Node


@dataclass(frozen=True)
class Work:
    """Multiply-accumulates of a node: `factor` times the product of the lengths of `axes`."""

    axes: tuple[tuple[Operand, int], ...]
    factor: float = 1.0


def work(*axes: tuple[Operand, int] | list[tuple[Operand, int]], factor: float = 1.0) -> Work:
    """`work(every(y), (w, 1))`: MACs as a product of axis lengths."""
    flat: list[tuple[Operand, int]] = []
    for item in axes:
        flat += item if isinstance(item, list) else [item]
    return Work(tuple(flat), factor)


def every(x: Operand, start: int = 0, stop: int | None = None) -> list[tuple[Operand, int]]:
    """The axes of `x` from `start` to `stop`, for `work`."""
    return [(x, axis) for axis in range(*slice(start, stop).indices(x.rank))]


@dataclass(frozen=True)
class BodyView:
    """The border of a graph that a node carries: None where a value's shape is unknown. `never_runs`, at any sizes."""

    inputs: dict[str, Operand | None]
    outputs: dict[str, Operand | None]
    never_runs: bool

    @property
    def operands(self) -> list[Operand]:
        return [o for o in (*self.inputs.values(), *self.outputs.values()) if o is not None]


class NodeView:
    """What a rule reads. Absent optional inputs are None; outputs that are not used are None too.

    `bodies` are the borders of the graphs that the node carries, by attribute. Their nodes have rules of their own.
    """

    def __init__(self, node: Node, view: GraphView, shapes: Shapes, atoms: Atoms, keys: VectorKeys) -> None:
        self.node = node
        self.op, self.opset, self.title, self.index = node.op, node.opset, node.title, node.index
        self._view, self._shapes = view, shapes
        self._atoms, self._keys = atoms, keys

    @property
    def never_runs(self) -> bool:
        """Whether the node stands in a body of an If that is never taken."""
        return self._shapes.never_runs(self.node.scope)

    @cached_property
    def inputs(self) -> list[Operand | None]:
        node, key = self.node, self._keys.of
        return [self._operand(name, key(name, node.index, at), at) for at, name in enumerate(node.inputs)]

    @cached_property
    def outputs(self) -> list[Operand | None]:
        return [self._operand(name, (name, -1, -1), at) for at, name in enumerate(self.node.outputs)]

    @cached_property
    def bodies(self) -> dict[str, BodyView]:
        return {
            attribute: BodyView(
                {key: self._operand(key, (key, -1, -1), -1) for key in scope.inputs},
                {key: self._operand(key, (key, -1, -1), -1) for key in scope.outputs},
                scope.title in self._shapes.dead,
            )
            for attribute, scope in self.node.bodies.items()
        }

    @property
    def unknown(self) -> list[str]:
        """Inputs and outputs of which the shape is unknown. An output that nobody reads (the mask of an old Dropout)
        is none: its shape does not matter.
        """
        known, node = self._shapes.shape, self.node
        found = [name for name in node.inputs if name and name not in known]
        missing = [(at, name) for at, name in enumerate(node.outputs) if name and name not in known]
        return found + [name for at, name in missing if not at or self.readers(at)]

    def _operand(self, name: str, key: tuple[str, int, int], position: int) -> Operand | None:
        shape = self._shapes.shape.get(name) if name else None
        if shape is None:
            return None
        return Operand(
            self._atoms, key, name, shape, self._shapes.dtype.get(name, 0), position, self._shapes.value.get(name),
            name in self._view.fixed,
        )  # fmt: skip

    @property
    def operands(self) -> list[Operand]:
        own = [o for o in (*self.inputs, *self.outputs) if o is not None]
        return own + [o for body in self.bodies.values() for o in body.operands]

    @property
    def stranded(self) -> list[Operand]:
        """What stays if the node is not understood: all that it touches. If it never runs, what is stored beside it."""
        if not self.never_runs:
            return self.operands
        own = set(self.node.scope.keys.values())
        return [x for x in self.operands if x.name in own and x.name in self._view.constants]

    @property
    def x(self) -> Operand:
        """The first input."""
        return self.input(0)

    @property
    def y(self) -> Operand:
        """The first output."""
        found = self.outputs[0]
        if found is None:
            raise Decline("its first output is not used")
        return found

    def input(self, position: int) -> Operand:
        """A required input. Raises Decline where it is absent."""
        found = self.optional(position)
        if found is None:
            raise Decline(f"input {position} is missing")
        return found

    def optional(self, position: int) -> Operand | None:
        """An optional input, None where it is absent."""
        return self.inputs[position] if position < len(self.inputs) else None

    def output(self, position: int) -> Operand | None:
        """An output, None where it is not there."""
        return self.outputs[position] if position < len(self.outputs) else None

    def attr(self, name: str, default: Any = None) -> Any:
        return self.node.attrs.get(name, default)

    def axis(self, name: str = "axis", default: int | None = None, rank: int | None = None) -> int:
        """An axis attribute, normalised to 0..rank-1 (the rank of the first input unless told)."""
        given = self.attr(name, default)
        if given is None:
            raise Decline(f"attribute {name} is missing")
        rank = self.x.rank if rank is None else rank
        if not -rank <= given <= rank:
            raise Decline(f"{name}={given} is outside a tensor of rank {rank}")
        return int(given) if given >= 0 else int(given) + rank

    def value(self, position: int) -> np.ndarray | None:
        """The input's value where it is stored in the file or computed from sizes, else None."""
        if position >= len(self.node.inputs) or not self.node.inputs[position]:
            return None
        name = self.node.inputs[position]
        found = self._shapes.value.get(name)
        if found is None:
            source = self._view.identity_source(name)
            if source in self._view.constants:
                found = self._view.model.array(self._view.constants[source])
        return found

    def ints(self, position: int, attribute: str | None = None) -> list[int] | None:
        """A list of integers given as an input, or as an attribute in older opsets; None where not given.

        Raises Decline where the input is there but computed from data.
        """
        if attribute is not None and attribute in self.node.attrs:
            given = self.attr(attribute)
            return [int(v) for v in given] if isinstance(given, (list, tuple)) else [int(given)]
        if position >= len(self.node.inputs) or not self.node.inputs[position]:
            return None
        found = self.value(position)
        if found is None:
            raise Decline(f"input {position} ({self.node.inputs[position]}) is computed from data")
        return [int(v) for v in found.reshape(-1)]

    def varies(self, position: int) -> bool:
        """Whether the known value of an input is computed from a dynamic dimension."""
        return position < len(self.node.inputs) and self._shapes.varies(self.node.inputs[position])

    def varying(self, position: int, size: int) -> np.ndarray:
        """Bool per element of an input of `size` sizes: whether a dynamic dimension decides it."""
        name = self._input_name(position)
        mask = self._shapes.varying.get(name)
        if mask is None or mask.size != size:
            return np.full(size, mask is not None)
        return mask.reshape(-1)

    def readers(self, position: int) -> list[tuple[str, int]]:
        """The (operator, input position) pairs that read an output; ("", 0) is the model, or what carries the graph."""
        name = self.node.outputs[position] if position < len(self.node.outputs) else ""
        found = [(reader.op, at) for reader, at in self._view.consumers.get(name, ())]
        return [*found, ("", 0)] if self._view.leaves(name) else found

    def maker(self, position: int) -> Node | None:
        """The node that makes an input, None for what is stored, fed or absent."""
        return self._view.producer.get(self._input_name(position))

    def is_picked(self, position: int) -> bool:
        """Whether data picks the input from what is stored: the weights of the experts that a router chose."""
        name = self._input_name(position)
        while (made := self._view.producer.get(name)) is not None and not made.domain:
            if made.op in ("Gather", "GatherND"):
                return made.inputs[0] in self._view.fixed and made.inputs[1] not in self._view.fixed
            if made.op not in ("Cast", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"):
                return False
            name = made.inputs[0]
        return False

    def shape_of(self, name: str) -> tuple[int, ...] | None:
        """The dense shape of any value of the graph, None where it is unknown."""
        return self._shapes.shape.get(name)

    def _input_name(self, position: int) -> str:
        return self.node.inputs[position] if position < len(self.node.inputs) else ""

    def is_stored(self, position: int) -> bool:
        """Whether the input is a tensor stored in the file (directly or behind Identity)."""
        return position < len(self.node.inputs) and (
            self._view.identity_source(self.node.inputs[position]) in self._view.constants
        )


_SELECTING = frozenset({"Slice", "Split", "Gather", "GatherND", "GatherElements", "Compress"})


class VectorKeys:
    """Which atoms a value has at a use.

    A stored vector (at most one axis longer than 1) that several nodes read has atoms per use: exporters share zero
    biases and norm vectors between unrelated layers, and that must not couple them. Matrices that are tied stay tied,
    and so does what a body gives to its node, or a function holds: no reader of these can be given another tensor.
    Nor is a vector shared that some reader takes a part of: it is several in one, such as the biases of gates.
    """

    def __init__(self, view: GraphView) -> None:
        self._view = view
        uses: dict[str, int] = {}
        for name, readers in view.consumers.items():
            source = view.identity_source(name)
            uses[source] = uses.get(source, 0) + len(readers)
        tied = view.flat.shared | {view.identity_source(name) for name in view.exits}
        tied.update(
            view.identity_source(node.inputs[0]) for node in view.nodes if node.op in _SELECTING and not node.domain
        )
        self._shared = {
            name for name, tensor in view.constants.items()
            if uses.get(name, 0) > 1 and name not in tied and sum(d > 1 for d in tensor.dims) <= 1
        }  # fmt: skip

    def is_shared_vector(self, name: str) -> bool:
        return name in self._shared

    def of(self, name: str, node: int, position: int) -> tuple[str, int, int]:
        source = self._view.identity_source(name) if self._shared else name
        return (source, node, position) if source in self._shared else (name, -1, -1)
