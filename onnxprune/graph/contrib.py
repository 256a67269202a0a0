"""Shapes of operators that onnx has no schema for, by domain and operator. The files in FAMILIES fill the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from onnx import TensorProto, checker, defs, helper, shape_inference

from onnxprune.graph.view import Node

Shape = tuple[int, ...]
Typed = tuple[Shape, int]  # a shape and an onnx dtype

FAMILIES = ("quantised_shapes", "fused_shapes")
MICROSOFT = "com.microsoft"
_WINDOW_OPSET = 12  # of the operators whose windows are asked of onnx


@dataclass(frozen=True)
class Known:
    """A node and what is known of its inputs. Asking for what is not known raises KeyError: nothing is inferred."""

    node: Node
    shapes: Mapping[str, Shape]
    dtypes: Mapping[str, int]
    values: Mapping[str, np.ndarray]

    def has(self, position: int) -> bool:
        """Whether an optional input is there."""
        return position < len(self.node.inputs) and self.node.inputs[position] != ""

    def shape(self, position: int) -> Shape:
        return self.shapes[self._name(position)]

    def dtype(self, position: int) -> int:
        return self.dtypes[self._name(position)]

    def typed(self, position: int) -> Typed:
        """Shape and dtype of an input, for an output that is like it."""
        return self.shape(position), self.dtype(position)

    def ints(self, position: int) -> list[int]:
        """The elements of an input whose value is known."""
        return [int(v) for v in self.values[self._name(position)].reshape(-1)]

    def attr(self, name: str, default: Any = None) -> Any:
        return self.node.attrs.get(name, default)

    def _name(self, position: int) -> str:
        if not self.has(position):
            raise KeyError(position)
        return self.node.inputs[position]


Inferrer = Callable[[Known], Sequence[Typed | None]]
_TABLE: dict[tuple[str, str], Inferrer] = {}


def infers(*ops: str, domain: str = MICROSOFT) -> Callable[[Inferrer], Inferrer]:
    """Register the decorated function: it gives shape and dtype of each output, None where one is not known.

    Raises ValueError on a duplicate.
    """

    def register(function: Inferrer) -> Inferrer:
        for op in ops:
            if (domain, op) in _TABLE:
                raise ValueError(f"{domain}.{op} is inferred already")
            _TABLE[domain, op] = function
        return function

    return register


def infer_contrib(
    node: Node, shapes: Mapping[str, Shape], dtypes: Mapping[str, int], values: Mapping[str, np.ndarray]
) -> dict[str, Typed]:
    """Shape and dtype of the node's outputs by name, as far as they follow from what is known of its inputs."""
    function = _table().get((node.domain, node.op))
    if function is None:
        return {}
    try:
        found = function(Known(node, shapes, dtypes, values))
    except (KeyError, ValueError, IndexError, TypeError, ZeroDivisionError):
        return {}  # an input is unknown, or the node is not valid: whoever needs its shape says so
    return {name: typed for name, typed in zip(node.outputs, found, strict=False) if name and typed is not None}


def window_shape(node: Known, op: str, *shapes: Shape, **more: Any) -> Shape:
    """What onnx infers for `op` of ai.onnx on images of these shapes, channels first, with this node's attributes.

    `more` are attributes beyond those, None for none.

    Raises ValueError where onnx finds the node invalid.
    """
    schema = defs.get_schema(op, _WINDOW_OPSET)
    names = [f"i{k}" for k in range(len(shapes))]
    given = {**node.node.attrs, **more}
    attrs = {name: value for name, value in given.items() if name in schema.attributes and value is not None}
    types = {n: helper.make_tensor_type_proto(TensorProto.FLOAT, s) for n, s in zip(names, shapes, strict=True)}
    try:
        found = shape_inference.infer_node_outputs(
            schema, helper.make_node(op, names, ["y"], **attrs), types,
            opset_imports=[helper.make_opsetid("", _WINDOW_OPSET)],
        )  # fmt: skip
    except (shape_inference.InferenceError, checker.ValidationError, RuntimeError) as error:
        raise ValueError(str(error)) from error
    return tuple(d.dim_value for d in found["y"].tensor_type.shape.dim)


def channels_first(shape: Shape) -> Shape:
    """[N, ..., C] as [N, C, ...]."""
    return (shape[0], shape[-1], *shape[1:-1])


def channels_last(shape: Shape) -> Shape:
    """[N, C, ...] as [N, ..., C]."""
    return (shape[0], *shape[2:], shape[1])


@cache
def _table() -> dict[tuple[str, str], Inferrer]:
    for family in FAMILIES:
        import_module(f"onnxprune.graph.{family}")
    return _TABLE
