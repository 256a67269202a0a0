"""What a plan predicts: which indices of every value stay, and so every value's shape after the edit."""

from __future__ import annotations

import numpy as np

from onnxprune.coupling.atoms import Operand
from onnxprune.coupling.coupling import Coupling
from onnxprune.coupling.orders import Orders

Key = tuple[str, int, int]


class Prediction:
    """Shapes and kept indices that follow from a set of removed classes (bool, see Coupling.removed_classes).

    Indices count places: where `orders` are given, stored tensors are first brought into another order.
    """

    def __init__(self, coupling: Coupling, removed: np.ndarray, orders: Orders | None = None) -> None:
        self.coupling, self.removed, self.orders = coupling, removed, orders
        self.lengths = coupling.lengths(removed)

    def length(self, key: Key, axis: int, dense: int) -> int:
        slot = self.coupling.atoms.slot_at(key, axis)
        return dense if slot is None else int(self.lengths[slot])

    def shape_of(self, x: Operand) -> tuple[int, ...]:
        """The operand's shape after the edit."""
        return tuple(self.length(x.key, axis, size) for axis, size in enumerate(x.shape))

    def shape(self, name: str) -> tuple[int, ...]:
        """The named value's shape after the edit; for a shared vector that of none of its uses, but the dense one."""
        dense = self.coupling.shapes.shape[name]
        return tuple(self.length((name, -1, -1), axis, size) for axis, size in enumerate(dense))

    def kept(self, x: Operand, axis: int) -> np.ndarray:
        """Sorted indices (int64) of the operand's axis that stay."""
        slot = self.coupling.atoms.slot_at(x.key, axis % x.rank)
        if slot is None:
            return np.arange(x.shape[axis], dtype=np.int64)
        return self.coupling.kept_of_slot(slot, self.removed)

    def changed_axes(self, name: str) -> dict[int, int]:
        """Axes of the named value that get shorter, with their new lengths."""
        dense = self.coupling.shapes.shape.get(name, ())
        return {axis: new for axis, (old, new) in enumerate(zip(dense, self.shape(name) if dense else (), strict=True))
                if new != old}  # fmt: skip
