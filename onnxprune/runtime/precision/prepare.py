"""A model as the converter takes it: every node named, every float value's type stated, nothing left to a default.

The converter goes by names of nodes and by stated types alone, and where a type is not stated it makes a model of mixed
types that does not load.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, ValueInfoProto, helper

from onnxprune.errors import ModelError
from onnxprune.graph.bindings import Bindings
from onnxprune.graph.model import Model
from onnxprune.graph.shapes import Shapes, infer_shapes
from onnxprune.graph.tensors import all_tensors, embedded_array, set_array
from onnxprune.graph.view import GraphView, Scope
from onnxprune.graph.weightless import skeleton
from onnxprune.runtime.precision.kinds import BFLOAT16, Kind

log = logging.getLogger(__name__)

BFLOAT16_SINCE = 13
"""The opset in which Cast, and most of arithmetic, took bfloat16."""

NAME = "onnxprune::unnamed::"
"""What nodes without a name are called for a while."""


def prepared(model: Model, kind: Kind) -> tuple[Model, tuple[str, ...]]:
    """A copy with all weights in memory, and the names of stored scalars that were cut to the type's range.

    Only negative ones are: a single -3.4e38 is what exporters hide places from a softmax with, and half of the range,
    to which a score can still be added, hides them as well. Raises ModelError for a model with functions of its own, or
    of too old an opset for the type.
    """
    opset = next((o.version for o in model.proto.opset_import if o.domain in ("", "ai.onnx")), 0)
    if kind is BFLOAT16 and opset < BFLOAT16_SINCE:
        raise ModelError(
            f"the model has opset {opset}, and bfloat16 came with {BFLOAT16_SINCE}",
            remedy="convert it with onnx.version_converter first (Conv has it from 22 on), or give --to fp16",
        )
    if model.proto.functions:
        raise ModelError(
            f"{model.proto.functions[0].name} is a function of the model's own, in which types cannot be changed",
            remedy="inline functions first: onnx.inliner.inline_local_functions",
        )
    proto = model.to_proto(external=True)
    cut = []
    for tensor in all_tensors(proto):
        if tensor.data_type == TensorProto.FLOAT and int(np.prod(tensor.dims)) == 1:
            value = embedded_array(tensor)
            if np.isfinite(value).all() and float(value.min()) < -kind.largest:
                set_array(tensor, np.full(value.shape, -kind.largest / 2, np.float32))
                cut.append(tensor.name or f"{float(value.min()):g}")
    return Model(proto), tuple(cut)


def types_of(view: GraphView, bindings: Bindings) -> Shapes:
    """What is known of each value, element types in bodies that never run included: these are converted as well."""
    shapes = infer_shapes(view, bindings)
    if len(view.scopes) > 1:
        try:
            inferred = onnx.shape_inference.infer_shapes(skeleton(view))
        except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
            log.debug("onnx does not infer types: %s", error)
        else:
            _learn(view.main, inferred.graph, {id(s.graph): s for s in view.scopes}, shapes)
    return shapes


def _learn(scope: Scope, inferred: GraphProto, scopes: Mapping[int, Scope], shapes: Shapes) -> None:
    for info in (*inferred.value_info, *inferred.output):
        kind = info.type.tensor_type.elem_type
        if kind:
            shapes.dtype.setdefault(scope.key(info.name), kind)
    for node, other in zip(scope.graph.node, inferred.node, strict=True):
        for one, two in zip(node.attribute, other.attribute, strict=True):
            if one.type == AttributeProto.GRAPH and id(one.g) in scopes:
                _learn(scopes[id(one.g)], two.g, scopes, shapes)


def spell_out(proto: ModelProto, shapes: Shapes) -> None:
    """Name nodes, state the types of float values, and the value of every ConstantOfShape.

    Initializers that are inputs too, as old files have them, are initializers alone for a while.
    """
    view = GraphView(Model(proto))
    inputs = [info for info in proto.graph.input if info.name not in view.main.initializers]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    for scope in view.scopes:
        stated = {info.name for info in (*scope.graph.value_info, *scope.graph.output, *scope.graph.input)}
        for index, node in enumerate(scope.graph.node):
            node.name = node.name or f"{NAME}{scope.title}:{index}"
            if node.op_type == "ConstantOfShape" and not node.domain and not node.attribute:
                zero = helper.make_tensor("", TensorProto.FLOAT, [1], [0])
                node.attribute.append(helper.make_attribute("value", zero))
            for name in node.output:
                if name and name not in stated and shapes.dtype.get(scope.key(name)) == TensorProto.FLOAT:
                    info = ValueInfoProto(name=name)
                    info.type.tensor_type.elem_type = TensorProto.FLOAT
                    scope.graph.value_info.append(info)


def restore(before: GraphProto, after: GraphProto) -> None:
    """Take out of `after` again what `spell_out` has put into it, in place; types stay as they are now."""
    kept = {info.name for info in before.value_info}
    infos = [info for info in after.value_info if info.name in kept]
    del after.value_info[:]
    after.value_info.extend(infos)
    stored = {tensor.name: tensor.data_type for tensor in after.initializer}
    there = {info.name: info for info in after.input}
    inputs = []
    for info in before.input:
        if info.name not in there:
            info = ValueInfoProto.FromString(info.SerializeToString())
            info.type.tensor_type.elem_type = stored[info.name]
        inputs.append(there.get(info.name, info))
    del after.input[:]
    after.input.extend(inputs)
    for node in after.node:
        if node.name.startswith(NAME):
            node.name = ""
    bodies = {o: node for node in before.node for o in node.output}
    for node in after.node:
        old = bodies.get(next(iter(node.output), ""))
        for one, other in zip([] if old is None else old.attribute, node.attribute, strict=False):
            if other.type == AttributeProto.GRAPH:
                restore(one.g, other.g)
