"""Residual blocks: where a value comes to an Add both directly and through a branch that nothing else reads.

Such a block can go whole: what read the sum reads the value itself, and the branch goes with its weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from onnxprune.graph.node import Node
from onnxprune.graph.shapes import Shapes
from onnxprune.graph.view import GraphView

_SUMS = frozenset({"Add", "Sum"})


@dataclass(frozen=True)
class ResidualBlock:
    """`entry` is the value that stays, `exit` the sum, named after the node that makes it, at index `sum_index`.

    `branch` is the other input of the sum at `branch_position`; `nodes` are the indices of the nodes that go with the
    block, that of the sum included. `channels` is the axis along which a position's channels lie.
    """

    name: str
    entry: str
    exit: str
    branch: str
    branch_position: int
    sum_index: int
    nodes: frozenset[int]
    channels: int


def find_blocks(view: GraphView, shapes: Shapes, parameters: Iterable[str]) -> tuple[ResidualBlock, ...]:
    """The residual blocks of the main graph that own a parameter, in graph order. Blocks may lie inside others."""
    owned = set(parameters)
    found = []
    for node in view.nodes:
        if node.op not in _SUMS or node.domain or not node.scope.is_main or len(node.inputs) != 2:
            continue
        for position in (0, 1):
            block = _block(view, shapes, owned, node, position)
            if block is not None:
                found.append(block)
                break
    return tuple(found)


def _block(view: GraphView, shapes: Shapes, owned: set[str], node: Node, position: int) -> ResidualBlock | None:
    """The block of a sum with the branch at `position`; None where it is none."""
    branch, entry = node.inputs[position], node.inputs[1 - position]
    (exit_,) = node.outputs
    if entry == branch or entry in view.fixed or branch in view.fixed or exit_ in shapes.arithmetic:
        return None
    if any(name not in shapes.shape for name in (entry, branch, exit_)):
        return None
    if shapes.shape[entry] != shapes.shape[exit_] or shapes.dtype.get(entry) != shapes.dtype.get(exit_):
        return None
    if any(reader.scope.in_function for reader, _ in view.consumers.get(exit_, ())):
        return None
    gone = _only_for(view, node, branch, entry)
    members = [view.nodes[index] for index in gone]
    if not any(entry in member.inputs for member in members):  # another branch, not one around it
        return None
    if any(not member.scope.is_main for member in members):
        return None
    if not any(view.identity_source(name) in owned for member in members for name in member.inputs):
        return None
    has_filters = any(member.op == "Conv" for member in members)
    channels = 1 if has_filters else len(shapes.shape[entry]) - 1
    return ResidualBlock(
        node.title, entry, exit_, branch, position, node.index, frozenset({*gone, node.index}), channels
    )


def _only_for(view: GraphView, node: Node, branch: str, entry: str) -> set[int]:
    """Indices of the nodes that nothing needs once what read `node` reads `entry`, and nobody `branch`."""
    gone, consumers = {node.index}, view.consumers
    pending = [branch]
    while pending:
        maker = view.producer.get(pending.pop())
        if maker is None or maker.index in gone:
            continue
        outputs = [name for name in maker.outputs if name]
        if entry in outputs or any(map(view.leaves, outputs)):
            continue
        if all(reader.index in gone for name in outputs for reader, _ in consumers.get(name, ())):
            gone.add(maker.index)
            pending += filter(None, maker.inputs)
    return gone - {node.index}
