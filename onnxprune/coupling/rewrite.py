"""What a rule's `literals` is given to say: which sizes a node must carry after units were removed."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from onnxprune.coupling.atoms import Operand


class Rewrite(Protocol):
    """The edit of one node. Sizes come from the plan; what is stated here is compared with what is there."""

    def kept(self, x: Operand, axis: int) -> np.ndarray:
        """Indices of `x`'s axis that stay, sorted, in the dense numbering (int64)."""

    def shape(self, x: Operand) -> tuple[int, ...]:
        """`x`'s shape after the edit."""

    def changed(self, x: Operand, axis: int | None = None) -> bool:
        """Whether any index of the axis (of any axis) is removed."""

    def current(self, position: int) -> np.ndarray | None:
        """The value that input `position` has at this point of the edit, None where it is computed from data."""

    def want(self, position: int, value: Any) -> None:
        """Input `position` must have this value (integers) after the edit; elements that agree are left alone."""

    def attr(self, name: str, value: Any) -> None:
        """Attribute `name` must have this value after the edit."""

    def pin(self, name: str, value: Any) -> None:
        """Set an attribute that was defaulted from a size to its dense value (reported)."""

    def replace(self, op: str, inputs: list[str | np.ndarray], **attrs: Any) -> None:
        """Make this node another operator on these inputs (names of values, or arrays that become constants)."""

    def insert(self, op: str, inputs: list[str | np.ndarray], shape: tuple[int, ...], **attrs: Any) -> str:
        """Put a node in front of this one, with inputs as for `replace`; gives the name of its output.

        The output is a new value of the given shape and of the first input's type.
        """

    def refuse(self, why: str) -> None:
        """No form of this node can do what the plan asks. Raises PlanError that names the node."""
