"""Shapes and small values of every tensor of a model, under bound input sizes.

One walk in graph order: shape arithmetic is evaluated in numpy (evaluate.py), everything else is asked of onnx's own
per-node inference with the sizes and values known so far, so a computed Reshape or Expand does not stop it. What
stays unknown can be measured by a runtime and handed in (`measured`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, ValueInfoProto, helper

from onnxprune.graph.bindings import Bindings, dimension_name, varied
from onnxprune.graph.bodies import Bodies
from onnxprune.graph.contrib import infer_contrib
from onnxprune.graph.evaluate import EVALUATORS, split
from onnxprune.graph.inference import Data, Kind, data_of, infer, schema_of
from onnxprune.graph.uninferred import infer_uninferred
from onnxprune.graph.varying import Varying
from onnxprune.graph.view import INTEGERS, VALUE_LIMIT, GraphView, Node, Scope

ARITHMETIC_LIMIT = 16  # a vector of more elements than any shape has is data
_SIZE_OPS = frozenset({"Shape", "Size"})


@dataclass
class Shapes:
    """What is known of each value by name. A value that is absent from `shape` has an unknown shape."""

    shape: dict[str, tuple[int, ...]] = field(default_factory=dict)
    dtype: dict[str, int] = field(default_factory=dict)
    value: dict[str, np.ndarray] = field(default_factory=dict)
    sized: set[str] = field(default_factory=set)
    """Values computed from the Shape of something."""
    varying: dict[str, np.ndarray] = field(default_factory=dict)
    """For values computed from a dynamic dimension, a boolean mask of the elements that vary with it."""
    varying_axes: dict[str, tuple[bool, ...]] = field(default_factory=dict)
    """For values whose Shape is taken, which axes vary with a dynamic dimension."""
    runs: dict[str, int] = field(default_factory=dict)
    """How often a body runs each time that its node does, by its scope's title, where that is known."""
    dead: set[str] = field(default_factory=set)
    """Titles of bodies of If that never run, whatever the sizes of dynamic dimensions."""
    other: Shapes | None = None
    """What `infer_at_other_sizes` found, once it was needed."""

    def times(self, scope: Scope) -> int:
        """How often a scope runs in a run of the model; what data decides (a condition, a trip count) counts once."""
        count = 1
        for around in scope.enclosing() if self.runs else ():
            count *= self.runs.get(around.title, 1)
        return count

    def never_runs(self, scope: Scope) -> bool:
        """Whether a scope is, or stands in, a body of If that is never taken."""
        return bool(self.dead) and any(around.title in self.dead for around in scope.enclosing())

    @cached_property
    def arithmetic(self) -> set[str]:
        """Values that are a size or a list of sizes, not data that flows through the model. Of a walk that is over."""
        return {
            name
            for name, value in self.value.items()
            if value.ndim <= 1
            and value.size <= ARITHMETIC_LIMIT
            and (name in self.sized or self.dtype.get(name) in INTEGERS)
        }

    def varies(self, name: str) -> bool:
        """Whether any element of the value is computed from a dynamic dimension."""
        mask = self.varying.get(name)
        return mask is not None and bool(mask.any())


Visitor = Callable[[Node, Shapes], None]


def _versions(imports: Iterable[onnx.OperatorSetIdProto]) -> tuple[tuple[str, int], ...]:
    return tuple((opset.domain, opset.version) for opset in imports)


def infer_shapes(
    view: GraphView,
    bindings: Bindings,
    measured: Mapping[str, tuple[int, ...]] | None = None,
    visit: Visitor | None = None,
    like: Shapes | None = None,
) -> Shapes:
    """Walk the graph once and return what is known.

    `visit(node, shapes)` is called before each node, when all that precedes it is known; it may edit the node's
    inputs and the initializers that they name (that is how an edit rewrites sizes in graph order). `like` is the
    result for the model before such an edit, which says what varies.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # arithmetic on sizes may divide by zero
        return Walk(view, bindings, measured or {}, visit, like).run()


def infer_at_other_sizes(view: GraphView, bindings: Bindings, like: Shapes | None = None) -> Shapes:
    """Shapes with every dynamic dimension at another size than `bindings` has, to see which axes follow.

    A model may not work at any size: values whose shape cannot be inferred there are absent. `like` is the result for
    the model before an edit, as in `infer_shapes`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return Walk(view, varied(bindings, view), {}, None, like, is_other=True).run()


class Walk:
    def __init__(
        self,
        view: GraphView,
        bindings: Bindings,
        measured: Mapping[str, tuple[int, ...]],
        visit: Visitor | None,
        like: Shapes | None,
        is_other: bool = False,
    ) -> None:
        self.view, self.bindings, self.measured, self.visit, self.like = view, bindings, measured, visit, like
        self.known = Shapes()
        self.types: dict[str, bytes] = {}  # of what is no tensor, or an input whose shape is not bound
        self.stated: dict[str, ValueInfoProto] = {
            scope.key(v.name): v
            for scope in view.scopes if not scope.in_function
            for v in [*scope.graph.value_info, *scope.graph.output] if v.type.HasField("tensor_type")
        }  # fmt: skip
        self.is_other = is_other
        self.opsets = _versions(view.model.proto.opset_import)
        self.bodies = Bodies(self)
        self.varying = Varying(self)

    def run(self) -> Shapes:
        for name, info in self.view.inputs.items():
            if name in self.bindings.shapes:
                self._set(name, self.bindings.shapes[name], info.type.tensor_type.elem_type)
            else:
                self.types[name] = info.type.SerializeToString(deterministic=True)
        for scope in self.view.scopes:
            for sparse in () if scope.is_call else scope.graph.sparse_initializer:
                self._set(scope.key(sparse.values.name), tuple(sparse.dims), sparse.values.data_type)
        self.steps(self.view.main)
        for name, tensor in self.view.initializers.items():
            if name not in self.known.shape:
                self.learn_constant(name, tensor)
        return self.known

    def steps(self, scope: Scope) -> None:
        """Walk the nodes that run in a scope, and before each the bodies that it carries."""
        for node in scope.steps:
            self._learn_inputs(node)
            if node.bodies:
                self.bodies(node)
            if self.visit is not None:
                self.visit(node, self.known)
                self._learn_inputs(node)  # the visitor may have given it others
            self._node(node)

    def _learn_inputs(self, node: Node) -> None:
        for name in node.inputs:
            if name and name not in self.known.shape and name in self.view.initializers:
                self.learn_constant(name, self.view.initializers[name])

    def learn_constant(self, name: str, tensor: TensorProto) -> None:
        self._set(name, tuple(tensor.dims), tensor.data_type)
        value = self.view.small_value(name, tensor)
        if value is not None:
            self.known.value[name] = value

    def _set(self, name: str, shape: tuple[int, ...], dtype: int) -> None:
        self.known.shape[name] = shape
        self.known.dtype[name] = dtype

    def at_other_sizes(self) -> Shapes:
        """What the model's values are at other sizes of its dynamic dimensions."""
        if self.known.other is None:
            self.known.other = infer_at_other_sizes(self.view, self.bindings)
        return self.known.other

    def copy_type(self, source: str, target: str) -> None:
        """Let `target` have the type that `source` has, as far as that is known."""
        self.forget(target)
        if source in self.types:
            self.types[target] = self.types[source]
        if source in self.known.dtype:
            self.known.dtype[target] = self.known.dtype[source]
        if source in self.known.shape:
            self.known.shape[target] = self.known.shape[source]

    def drop_shape(self, name: str) -> None:
        """Leave nothing known of a value but its element type."""
        self.types.pop(name, None)
        self.known.shape.pop(name, None)

    def forget(self, name: str) -> None:
        """Leave nothing known of a value."""
        self.drop_shape(name)
        for table in (self.known.dtype, self.known.value, self.known.varying, self.known.varying_axes):
            table.pop(name, None)
        self.known.sized.discard(name)

    def _type(self, name: str) -> Kind | None:
        if name in self.known.dtype:
            return self.known.dtype[name], self.known.shape.get(name)
        return self.types.get(name)

    def _node(self, node: Node) -> None:
        if self.like is not None and self._repeat(node, self.like):
            return
        if node.op == "Constant" and node.domain == "":
            self._constant(node)
            return
        if node.domain == "" and self._evaluate(node):
            return
        self._infer(node)
        for name in node.outputs:
            if name and name not in self.known.shape:
                self._fall_back(name)

    def _repeat(self, node: Node, like: Shapes) -> bool:
        """Take over what `like` has of a node that is and reads the same as there; most of an edited graph does.

        A value that an edit changed is another array, so that comparing identities is enough.
        """
        if node.is_edited or node.bodies:
            return False
        known = self.known
        if not node.inputs and not self._holds_the_same(node, like):
            return False
        for name in filter(None, node.inputs):
            if name not in known.shape or known.shape[name] != like.shape.get(name):
                return False
            if known.value.get(name) is not like.value.get(name):
                return False
        outputs = [name for name in node.outputs if name]
        if not all(name in like.shape and name in like.dtype for name in outputs):
            return False
        for name in outputs:
            self._set(name, like.shape[name], like.dtype[name])
            if name in like.value:
                known.value[name] = like.value[name]
            if name in like.sized:
                known.sized.add(name)
            if name in like.varying:
                known.varying[name] = like.varying[name]
        return True

    def _holds_the_same(self, node: Node, like: Shapes) -> bool:
        """Whether a node without inputs is a Constant whose small value the edit left alone."""
        held = self.view.small.get(node.outputs[0]) if node.op == "Constant" and not node.domain else None
        return held is not None and held is like.value.get(node.outputs[0])

    def _constant(self, node: Node) -> None:
        name = node.outputs[0]
        attribute = next(iter(node.attrs), "")
        value: Any = node.attrs.get(attribute)
        if attribute == "value":
            self.learn_constant(name, value)
            return
        if attribute in ("value_int", "value_ints", "value_float", "value_floats"):
            array = np.asarray(value, dtype=np.int64 if "int" in attribute else np.float32)
            self._set(name, array.shape, TensorProto.INT64 if "int" in attribute else TensorProto.FLOAT)
            self.known.value[name] = array
            return
        self._infer(node)

    # -- values ------------------------------------------------------------------------------------------------

    def _evaluate(self, node: Node) -> bool:
        """Evaluate `node` if all that it reads is a known value; True if that settled its output."""
        if node.op in _SIZE_OPS:
            return self._size(node)
        if node.op == "Split":
            return self._split(node)
        evaluator = EVALUATORS.get(node.op)
        if evaluator is None or len(node.outputs) != 1:
            return False
        values = [self.known.value.get(name) if name else None for name in node.inputs]
        if any(value is None and name for value, name in zip(values, node.inputs, strict=True)):
            return False
        if node.op in ("Expand", "ConstantOfShape", "Tile", "Range") and not self._is_small(node, values):
            return False
        try:
            result = evaluator.function(node, *values)
        except (ValueError, IndexError, TypeError, KeyError):
            return False  # not the small arithmetic that evaluate.py is for; inference decides
        if result is None or result.size > VALUE_LIMIT:
            return False
        name = node.outputs[0]
        result = self._as_known(name, np.asarray(result))
        self._set(name, result.shape, helper.np_dtype_to_tensor_dtype(result.dtype))
        self.known.value[name] = result
        self.varying.mark(node, name, values, result)
        return True

    def _split(self, node: Node) -> bool:
        """The one operator of several outputs that sizes pass through."""
        source, *rest = node.inputs
        sizes = self.known.value.get(rest[0]) if rest and rest[0] else None
        if source not in self.known.value or (rest and rest[0] and sizes is None):
            return False
        parts = split(node, self.known.value[source], sizes)
        if parts is None:
            return False
        for name, part in zip(node.outputs, parts, strict=True):
            if name:
                self._set(name, part.shape, self.known.dtype[source])
                self.known.value[name] = self._as_known(name, part)
        self.varying.mark_parts(node, sizes)
        return True

    def _as_known(self, name: str, value: np.ndarray) -> np.ndarray:
        """The very array that `like` has for the value, if it is equal: what follows from it is then repeated."""
        before = None if self.like is None else self.like.value.get(name)
        if before is None or before.dtype != value.dtype or before.shape != value.shape:
            return value
        return before if before.tobytes() == value.tobytes() else value

    def _is_small(self, node: Node, values: list[np.ndarray | None]) -> bool:
        if node.op == "Range":
            start, limit, delta = (float(v.item()) for v in values if v is not None)
            return delta != 0 and abs((limit - start) / delta) <= VALUE_LIMIT
        sizes = values[-1]
        return sizes is not None and math.prod(abs(size) for size in sizes.reshape(-1).tolist()) <= VALUE_LIMIT

    def _size(self, node: Node) -> bool:
        shape = self.known.shape.get(node.inputs[0])
        if shape is None:
            return False
        name, varying = node.outputs[0], self.varying.axes(node.inputs[0])
        if node.op == "Size":
            value, mask = np.asarray(math.prod(shape), np.int64), np.asarray(any(varying))
        else:
            window = slice(node.attrs.get("start", 0), node.attrs.get("end", len(shape)))
            value = np.asarray(shape[window], np.int64)
            mask = np.asarray(varying[window], bool)
        self._set(name, value.shape, TensorProto.INT64)
        self.known.value[name] = self._as_known(name, value)
        self.known.sized.add(name)
        if mask.any():
            self.known.varying[name] = mask
        return True

    # -- types -------------------------------------------------------------------------------------------------

    def _infer(self, node: Node) -> None:
        if node.bodies:
            self.bodies.leave(node)
            return
        operator = node.domain, node.op, node.opset
        schema = schema_of(*operator)
        if schema is None:
            for name, typed in infer_contrib(node, self.known.shape, self.known.dtype, self.known.value).items():
                self._set(name, *typed)
            return
        uninferred = not schema.has_type_and_shape_inference_function
        if uninferred and (settled := infer_uninferred(node, self.known.shape, self.known.dtype)) is not None:
            self._set(node.outputs[0], *settled)
            return
        types = [self._type(name) if name else None for name in node.inputs]
        if any(name and kind is None for name, kind in zip(node.inputs, types, strict=True)):
            return
        data = [self._data(name) for name in node.inputs]
        opsets = self.opsets if not node.scope.in_function else _versions(node.scope.opset_imports)
        inferred = infer(operator, node.settled, types, data, opsets, self.view.model.proto.ir_version)
        for output, kind in zip(node.outputs, inferred, strict=True):
            if not output or kind is None:
                continue
            if isinstance(kind, bytes):
                self.types[output] = kind
                continue
            self.known.dtype[output], shape = kind
            if shape is not None:
                self.known.shape[output] = shape

    def _data(self, name: str) -> Data | None:
        value = self.known.value.get(name)
        if value is None or self.known.dtype[name] not in INTEGERS | {TensorProto.FLOAT}:
            return None
        return data_of(value)

    def _fall_back(self, name: str) -> None:
        """Take what is stated of a value that inference leaves open."""
        stated = self.stated.get(name)
        if stated is not None and name not in self.known.dtype:
            self.known.dtype[name] = stated.type.tensor_type.elem_type
        shape = self.stated_shape(name)
        if shape is not None:
            self.known.shape[name] = shape
            self.types.pop(name, None)

    def stated_shape(self, name: str) -> tuple[int, ...] | None:
        """A measured shape, else what the file itself says of the value, its dimension names bound; else None."""
        if name in self.measured:
            return tuple(self.measured[name])
        stated = self.stated.get(name)
        if stated is None or not stated.type.tensor_type.HasField("shape"):
            return None
        dims = [
            d.dim_value if d.HasField("dim_value") else self.bindings.dims.get(dimension_name(d))
            for d in stated.type.tensor_type.shape.dim
        ]
        return None if any(d is None for d in dims) else tuple(d for d in dims if d is not None)
