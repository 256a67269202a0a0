"""A backend test case as models in which axes belong to parameters, so that there are units.

    fed         all is fed as in the case, sizes and indices too; floats are scaled along each of their axes
    sizes       what is not a float (sizes, indices, axes, masks) is stored, floats are scaled
    weights     all but the first input are stored

To scale is to multiply by a stored vector along an axis; the first input of the third form is scaled, too.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.test_case import TestCase

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
BROADCASTS = 7  # the first opset whose Mul does
Feeds = dict[str, np.ndarray]


def forms(case: TestCase) -> Iterator[tuple[str, onnx.ModelProto, Feeds]]:
    """Name, model and inputs of each form; none for a case of an old opset, or of one input that is not a float."""
    opset = max((o.version for o in case.model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if not case.data_sets or opset < BROADCASTS:
        return
    given = dict(zip((info.name for info in case.model.graph.input), case.data_sets[0][0], strict=False))
    tensors = [i.name for i in case.model.graph.input if isinstance(given.get(i.name), np.ndarray | np.generic)]
    sizes = [i.name for i in case.model.graph.input if i.name in tensors and not _is_scaled(i, given)]
    floats = any(_is_scaled(info, given) for info in case.model.graph.input)
    if floats:
        yield "fed", *_form(case.model, given, stored=[])
    if floats and sizes:
        yield "sizes", *_form(case.model, given, stored=sizes)
    if len(tensors) > 1 and not (floats and set(tensors[1:]) == set(sizes)):
        yield "weights", *_form(case.model, given, stored=tensors[1:])


def _is_scaled(info: onnx.ValueInfoProto, given: Feeds) -> bool:
    kind = info.type.tensor_type
    return info.type.HasField("tensor_type") and kind.elem_type in FLOATS and np.ndim(given.get(info.name, 0)) > 0


def _form(model: onnx.ModelProto, given: Feeds, stored: list[str]) -> tuple[onnx.ModelProto, Feeds]:
    made = onnx.ModelProto.FromString(model.SerializeToString())
    graph, rng = made.graph, np.random.default_rng(0)
    inputs, nodes = list(graph.input), list(graph.node)
    del graph.input[:], graph.node[:]
    feeds: Feeds = {}
    for info in inputs:
        if info.name in stored:
            graph.initializer.append(numpy_helper.from_array(np.asarray(given[info.name]), info.name))
        elif info.name not in given:
            graph.input.append(info)
        elif not _is_scaled(info, given):
            graph.input.append(info)
            feeds[info.name] = given[info.name]
        else:
            array = np.asarray(given[info.name])
            axes = [axis for axis, size in enumerate(array.shape) if size > 1]
            fed = f"{info.name}::fed" if axes else info.name
            graph.input.append(helper.make_tensor_value_info(fed, info.type.tensor_type.elem_type, array.shape))
            feeds[fed] = array
            for axis in axes:
                scale = f"{info.name}::scale{axis}"
                shape = [-1 if a == axis else 1 for a in range(array.ndim)]
                values = rng.uniform(0.5, 1.5, array.shape[axis]).astype(array.dtype)
                graph.initializer.append(numpy_helper.from_array(values.reshape(shape), scale))
                scaled = info.name if axis == axes[-1] else f"{info.name}::scaled{axis}"
                graph.node.append(helper.make_node("Mul", [fed, scale], [scaled]))
                fed = scaled
    graph.node.extend(nodes)
    return made, feeds
