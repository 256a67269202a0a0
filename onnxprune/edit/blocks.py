"""Drop residual blocks: what read a block's sum reads what came in, and the branch goes with its weights."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from onnxprune.coupling.coupling import Coupling
from onnxprune.coupling.residual import ResidualBlock
from onnxprune.edit.insertions import Insertions
from onnxprune.edit.leftovers import drop_leftovers
from onnxprune.errors import PlanError
from onnxprune.graph.model import Model
from onnxprune.graph.view import GraphView


def blocks_called(coupling: Coupling, names: Collection[str]) -> list[ResidualBlock]:
    """The coupling's blocks of these names, in graph order. Raises PlanError for a name that it does not have."""
    if not names:
        return []  # finding blocks takes time
    known = {block.name for block in coupling.blocks}
    for name in names:
        if name not in known:
            raise PlanError(
                f"the plan drops a block {name!r}, the model has none of that name",
                remedy="make a new plan for this model",
            )
    return [block for block in coupling.blocks if block.name in names]


def drop_blocks(model: Model, blocks: Sequence[ResidualBlock]) -> tuple[str, ...]:
    """Change `model`, a copy of the user's, in place. Gives notes for the report.

    A sum that is an output of the model becomes an Identity, so that the output keeps its name.
    """
    before = GraphView(model)
    consumers = before.consumers
    view = GraphView(model, before)
    notes = []
    for block in blocks:
        made = view.producer.get(block.exit)
        if made is None:  # it went with a block around it
            continue
        entry = made.inputs[1 - block.branch_position]  # of a block before this one that went, what came into it
        if block.exit in view.outputs:
            made.proto.op_type = "Identity"
            del made.proto.input[:], made.proto.attribute[:]
            made.proto.input.append(entry)
            made.refresh()
            notes.append(f"{made.title} is an Identity: its output is the model's")
            continue
        for reader, position in consumers.get(block.exit, ()):
            view.nodes[reader.index].read(position, entry)
    drop_leftovers(view, before, Insertions(view))
    return tuple(notes)
