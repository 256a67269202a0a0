"""Values that follow from what is stored in the file alone, computed: weights behind a decoder, Transpose or Cast."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from onnxprune.errors import ModelError
from onnxprune.graph.view import GraphView
from onnxprune.runtime.ort import RunOptions, make_session, run


def fixed_value(view: GraphView, name: str) -> np.ndarray | None:
    """The array that `name` always is, None where inputs have a part in it or ONNX Runtime cannot compute it.

    What is stored comes as it is stored (see Model.array), the rest from ONNX Runtime on the CPU; what is computed
    inside a body or a function is not looked into.
    """
    source = view.identity_source(name)
    if source in view.constants:
        return view.model.array(view.constants[source])
    if name not in view.fixed:
        return None
    nodes: dict[int, NodeProto] = {}
    stored: set[str] = set()
    pending = [name]
    while pending:
        value = pending.pop()
        maker = view.producer.get(value)
        if value in view.initializers:
            stored.add(value)
        elif maker is not None and not maker.scope.is_main:
            return None
        elif maker is not None and maker.index not in nodes:
            nodes[maker.index] = maker.proto
            pending += [i for i in maker.inputs if i]
    graph = helper.make_graph(
        [nodes[index] for index in sorted(nodes)], "fixed", [], [ValueInfoProto(name=name)],
        [_embedded(view, weight) for weight in sorted(stored)],
    )  # fmt: skip
    imports = [helper.make_opsetid(domain, version) for domain, version in view.opsets.items()]
    model = helper.make_model(graph, opset_imports=imports, ir_version=view.model.proto.ir_version)
    try:
        (found,) = run(make_session(model.SerializeToString(), RunOptions(threads=1), optimise=False), None, {})
    except ModelError:
        return None
    return found if isinstance(found, np.ndarray) else None


def _embedded(view: GraphView, name: str) -> TensorProto:
    source = view.initializers[name]
    copy = TensorProto(name=name, data_type=source.data_type, dims=source.dims)
    view.model.embed(source, copy)
    return copy
