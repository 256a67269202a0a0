"""What each block's member of a unit matters by itself, so that every block can lose its own least important ones.

For l2: the squares of all stored weights that go with the member, which add up to the unit's (see magnitude.py); for
l1 their magnitudes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxprune.coupling.balance import Balanced
from onnxprune.coupling.coupling import Coupling
from onnxprune.coupling.placing import Placing
from onnxprune.importance.magnitude import reads_weight, sums_of_powers
from onnxprune.importance.registry import Context, by_block
from onnxprune.importance.weights import Weight, weight


@by_block("l2", total=np.sqrt)
def l2(coupling: Coupling, context: Context) -> Mapping[int, np.ndarray]:
    """Squares of the weights of each block's members."""
    return parts(coupling, 2)


@by_block("l1")
def l1(coupling: Coupling, context: Context) -> Mapping[int, np.ndarray]:
    """Magnitudes of the weights of each block's members."""
    return parts(coupling, 1)


def parts(coupling: Coupling, power: int) -> dict[int, np.ndarray]:
    """Per balanced group [blocks, members] (float64), the magnitudes to this power of what goes with each member."""
    found = {i: np.zeros((item.blocks, item.members)) for i, item in coupling.balance.balanced.items()}
    for name, by_axis in coupling.tensor_slots.items():
        here = [
            (item, axis, slot)
            for axis, slots in by_axis.items()
            for slot in slots
            for item in coupling.balance.balanced.values()
            if slot in item.placings and reads_weight(coupling, slot)
        ]
        tensor = weight(coupling.view, name) if here else None
        if tensor is None:
            continue
        flat = sums_of_powers(tensor, {axis for _, axis, _ in here}, power)
        for item, axis, slot in here:
            placing = item.placings[slot]
            if placing.by is None:
                _add(found[item.group], placing, flat[axis])
            else:
                by = coupling.atoms.slots[placing.by[0]].axis
                _add_rows(found[item.group], placing, placing.by[1], _sums_along(tensor, by, axis, power))
    return found


@by_block("random")
def random(coupling: Coupling, context: Context) -> Mapping[int, np.ndarray]:
    """Uniform in [0, 1) for each block's member, the same for the same seed and model."""
    rng = np.random.default_rng(context.seed)
    balanced: Mapping[int, Balanced] = coupling.balance.balanced
    return {index: rng.random((item.blocks, item.members)) for index, item in balanced.items()}


def _add(total: np.ndarray, placing: Placing, sums: np.ndarray) -> None:
    for table, block in placing.tables:
        np.add.at(total, block, sums[table].sum(-1))


def _add_rows(total: np.ndarray, placing: Placing, block: np.ndarray, sums: np.ndarray) -> None:
    """`sums` [indices of the axis with the blocks, indices of the axis with the members]."""
    for table, _ in placing.tables:
        np.add.at(total, block, sums[:, table].sum((1, 3)))


def _sums_along(tensor: Weight, by: int, axis: int, power: int) -> np.ndarray:
    """The sum of magnitudes to this power over all axes but `by` and `axis` (float64), of shape [by, axis]."""
    shape = tensor.shape
    kept = sorted((by, axis))
    others = tuple(a for a in range(len(shape)) if a not in kept)
    total = np.zeros([shape[a] for a in kept])
    with np.errstate(over="ignore", invalid="ignore"):
        for start, block in tensor.blocks():
            sums = (np.abs(block.astype(np.float64)) ** power).sum(axis=others)
            if kept[0] == 0:
                total[start : start + len(block)] += sums
            else:
                total += sums
    total = np.nan_to_num(total, nan=0.0, posinf=0.0)
    return total if by < axis else total.T
