"""Group magnitude: a unit matters as much as the weights that would go with it are large."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.importance.registry import Context, criterion
from onnxprune.importance.tally import Tally
from onnxprune.importance.weights import Weight, is_weight_at, uses, weight


@criterion("l2")
def l2(coupling: Coupling, context: Context) -> list[np.ndarray]:
    """The L2 norm, per unit, of every stored weight that goes with it: filters, the consumers' columns, biases, scales.

    Norms of a filter alone: Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, arXiv:1608.08710. Over all
    coupled weights: Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023, arXiv:2301.12900.
    """
    return [np.sqrt(total) for total in totals(coupling, context.aggregate, 2)]


@criterion("l1")
def l1(coupling: Coupling, context: Context) -> list[np.ndarray]:
    """The L1 norm, per unit, of every stored weight that goes with it.

    Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, arXiv:1608.08710, over all coupled weights as `l2`.
    """
    return totals(coupling, context.aggregate, 1)


def totals(coupling: Coupling, aggregate: str, power: int) -> list[np.ndarray]:
    """Per group and unit, the magnitudes to this power of all weights that go with it, aggregated over their axes."""
    places = (
        place for name, by_axis in coupling.tensor_slots.items() for place in _places(coupling, name, by_axis, power)
    )
    if aggregate != "sum":
        tally = Tally(coupling, aggregate)
        for classes, sums in places:
            tally.add(classes, sums)
        return [np.asarray(values) for values in tally.by_group()]
    per_class = np.zeros(coupling.solution.classes)
    for classes, sums in places:
        np.add.at(per_class, classes, sums)
    totals = coupling.units.unit_totals(per_class)
    return [totals[group.roots] for group in coupling.units.groups]


def _places(
    coupling: Coupling, name: str, by_axis: Mapping[int, Sequence[int]], power: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each use of each axis of a stored tensor, its indices' classes, and the magnitudes that lie there."""
    frozen = coupling.solution.frozen
    live = {
        axis: [slot for slot in slots if reads_weight(coupling, slot) and not frozen[_classes(coupling, slot)].all()]
        for axis, slots in by_axis.items()
    }
    axes = [axis for axis, slots in live.items() if slots]
    tensor = weight(coupling.view, name) if axes else None
    if tensor is None:
        return
    sums = sums_of_powers(tensor, axes, power)
    for axis in axes:
        for slot in live[axis]:
            yield _classes(coupling, slot), sums[axis]


def sums_of_squares(tensor: Weight, axes: Collection[int]) -> dict[int, np.ndarray]:
    """For each axis of a tensor the sum of squares over all other axes (float64), in one pass over it."""
    return sums_of_powers(tensor, axes, 2)


def sums_of_powers(tensor: Weight, axes: Collection[int], power: int) -> dict[int, np.ndarray]:
    """For each axis the sum of magnitudes (`power` 1) or squares (2) over all other axes (float64), in one pass.

    A sum that takes in an infinity or NaN counts as nothing: these are masks and accidents, and no size.
    """
    shape = tensor.shape
    rows = np.zeros(shape[0])
    rest = np.zeros(int(np.prod(shape[1:])))
    with np.errstate(over="ignore", invalid="ignore"):
        for start, block in tensor.blocks():
            flat = block.reshape(len(block), -1)
            other = flat if power == 2 else np.sign(flat)
            if 0 in axes:
                rows[start : start + len(block)] = np.einsum("ij,ij->i", flat, other)
            if len(axes) > (0 in axes):
                rest += np.einsum("ij,ij->j", flat, other)
        found = {0: rows}
        others = rest.reshape(shape[1:])
        for axis in axes:
            if axis:
                found[axis] = others.sum(axis=tuple(a for a in range(others.ndim) if a != axis - 1))
    return {axis: total if np.isfinite(total).all() else _finite(total) for axis, total in found.items()}


def _finite(total: np.ndarray) -> np.ndarray:
    return np.asarray(np.nan_to_num(total, nan=0.0, posinf=0.0))


def _classes(coupling: Coupling, index: int) -> np.ndarray:
    slot = coupling.atoms.slots[index]
    return coupling.solution.label[slot.start : slot.start + slot.size]


def reads_weight(coupling: Coupling, index: int) -> bool:
    """Whether a slot of a stored tensor is read as a weight: at its one use for shared vectors, else at any."""
    value, node, position = coupling.atoms.slots[index].key
    if node >= 0:
        return is_weight_at(coupling.view.nodes[node], position)
    return any(is_weight_at(user, place) for user, place in uses(coupling.view, value))
