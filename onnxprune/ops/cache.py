"""Caches of keys and values that are written in place."""

from __future__ import annotations

from onnxprune.coupling.atoms import Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule
from onnxprune.ops.spatial import freeze_axes


@rule("TensorScatter", since=24)
def tensor_scatter(node: NodeView, link: Link) -> None:
    """present = past with update written from write_indices on along `axis`; every other axis is the same in all."""
    past, update, present = node.x, node.input(1), node.y
    at = node.axis("axis", -2)
    for x in (past, update):
        link.same_axes(x, present, skip=at)
        freeze_axes(link, x, [at], "steps of a sequence, written by their place")
    freeze_axes(link, present, [at], "steps of a sequence, written by their place")
    if (places := node.optional(2)) is not None:
        link.same(places[0], present[0])
