"""Inputs that are settings of an operator, not data: scales, sizes, the two values of a one-hot encoding."""

from __future__ import annotations

from collections.abc import Iterable

from onnxprune.coupling.atoms import Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.ops.spatial import freeze_axes


def settle(node: NodeView, link: Link, positions: Iterable[int], what: str) -> None:
    """Known settings have no part in any axis; those computed from data must stay as long as they are."""
    for position in positions:
        if (given := node.optional(position)) is not None:
            if node.value(position) is not None:
                given.ignore()
            else:
                freeze_axes(link, given, range(given.rank), what)
