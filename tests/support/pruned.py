"""Prune a model to a choice of units that a test writes out, and look at what a node then carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from onnx import helper, numpy_helper

from onnxprune.analyse import analyse
from onnxprune.edit import edit


def pruned(source: onnx.ModelProto, kept: Mapping[str, Sequence[int]], **options: Any) -> onnx.ModelProto:
    """`source` with only the units `kept[group name]` of the named groups left; `options` are those of `analyse`."""
    coupling = analyse(source, **options)
    index = {group.name: group.index for group in coupling.groups}
    return edit(coupling, coupling.removed_classes({index[name]: list(k) for name, k in kept.items()})).model.to_proto()


def attributes(model: onnx.ModelProto, op: str) -> dict[str, Any]:
    """The attributes of the only node of that operator; strings as bytes."""
    (node,) = [n for n in model.graph.node if n.op_type == op]
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """The shapes of all initializers."""
    return {t.name: tuple(t.dims) for t in model.graph.initializer}


def array(model: onnx.ModelProto, name: str) -> Any:
    """The initializer of that name as a numpy array."""
    (tensor,) = [t for t in model.graph.initializer if t.name == name]
    return numpy_helper.to_array(tensor)
