"""Channel permutation: the order of a group's units in which 2:4 keeps most of the weights that read them.

Units move as the coupling says, in everything that holds them, so that the model computes what it did; only which
channels stand next to each other where a consumer sums over them is another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.coupling.orders import Orders
from onnxprune.coupling.permuting import Permutable, classes_at, find_permutable
from onnxprune.edit.rearrange import rearrange
from onnxprune.graph.model import Model
from onnxprune.sparsity.groups import GROUP
from onnxprune.sparsity.permute import best_order
from onnxprune.sparsity.stored import arrays_of, magnitudes
from onnxprune.sparsity.wanted import Target
from onnxprune.sparsity.weights import Use

Norms = Mapping[tuple[int, int], np.ndarray]
"""By node and input position of a use: the root mean square of each index that it sums over, [K]."""


@dataclass(frozen=True)
class Moved:
    """A group that was permuted: its name, units, and the share of scores that 2:4 loses, before and after."""

    name: str
    size: int
    before: float
    after: float


@dataclass(frozen=True)
class Reordered:
    """The model in its new order, the groups that moved, and of the others with 2:4 weights why they did not."""

    model: Model
    moved: tuple[Moved, ...]
    stayed: dict[str, str]


def reorder(
    coupling: Coupling, targets: tuple[Target, ...], *, seconds: float, seed: int = 0, norms: Norms | None = None
) -> Reordered:
    """Permute every group that 2:4 weights sum over, in `seconds` of search altogether.

    Scores are the weights' magnitudes, times what they meet where `norms` are given.
    """
    found, reasons = find_permutable(coupling)
    uses = [use for target in targets if (target.pattern.n, target.pattern.m) == (2, GROUP)
            for use in target.weight.uses if use.blocks == 1]  # fmt: skip
    columns = {
        index: parts for index, group in found.items() if (parts := _columns(coupling, group, uses, norms)) is not None
    }
    whole = sum(part.size for part in columns.values())
    choices: dict[int, np.ndarray] = {}
    moved: list[Moved] = []
    stayed = {coupling.groups[i].name: why for i, why in reasons.items() if _is_read(coupling, i, uses)}
    for index, part in columns.items():
        name = coupling.groups[index].name
        order = best_order(part, seconds * part.size / whole, seed)
        if order.after > order.before:
            choices[index] = order.order[None]
            total = float(part.sum(dtype=np.float64))
            moved.append(Moved(name, len(part), 1 - order.before / total, 1 - order.after / total))
        else:
            stayed[name] = "no better order was found"
    if not choices:
        return Reordered(coupling.view.model.copy(), (), stayed)
    orders = Orders(coupling, choices, {index: found[index].placings for index in choices})
    return Reordered(rearrange(coupling, orders), tuple(moved), stayed)


def _columns(coupling: Coupling, group: Permutable, uses: list[Use], norms: Norms | None) -> np.ndarray | None:
    """Scores [members, rows] of all that sums over the group's units, four by four; None if nothing does."""
    parts = []
    for use in uses:
        classes = classes_at(coupling, use.node, use.position, use.axis)
        if classes is None or len(classes) != use.shape[use.axis]:
            continue
        for table in group.tables(classes):
            if table.shape[2] != 1:
                continue  # units that lie beside themselves (C x H x W): their order decides nothing
            cells = table[:, :, 0]
            if (np.diff(cells, axis=1) == 1).all() and not (cells[:, 0] % GROUP).any():
                parts.append(_scores(coupling, use, cells, norms))
    return np.concatenate(parts, axis=1) if parts else None


def _scores(coupling: Coupling, use: Use, cells: np.ndarray, norms: Norms | None) -> np.ndarray:
    """[members, cells x rows] of a use, in float32."""
    arrays = arrays_of(coupling.view.model, coupling.view, use.operand)
    parts = [magnitudes(array, leaf) for array, leaf in zip(arrays, use.operand.leaves, strict=True)]
    scores = np.moveaxis(use.operand.arrange(parts), use.axis, 0).astype(np.float32)
    scores = scores.reshape(len(scores), -1)
    weight = None if norms is None else norms.get((use.node, use.position))
    if weight is not None:
        scores = scores * weight[:, None].astype(np.float32)
    return np.asarray(scores[cells].transpose(1, 0, 2).reshape(cells.shape[1], -1))


def _is_read(coupling: Coupling, index: int, uses: list[Use]) -> bool:
    slots = set(coupling.units.groups[index].slots.tolist())
    for use in uses:
        operand = coupling.sites[use.node].node.inputs[use.position]
        if operand is not None and coupling.atoms.slot_at(operand.key, use.axis) in slots:
            return True
    return False
