"""Which tensors of a file count as parameters."""

from __future__ import annotations

from onnx import TensorProto

from onnxprune.graph.view import GraphView

_INTEGERS_THAT_WEIGHTS_ARE_QUANTISED_TO = frozenset({
    TensorProto.UINT8, TensorProto.INT8, TensorProto.UINT16, TensorProto.INT16, TensorProto.INT32, TensorProto.UINT4,
    TensorProto.INT4,
})  # fmt: skip
_FLOATS = frozenset({
    TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16, TensorProto.FLOAT8E4M3FN,
    TensorProto.FLOAT8E4M3FNUZ, TensorProto.FLOAT8E5M2, TensorProto.FLOAT8E5M2FNUZ, TensorProto.FLOAT4E2M1,
})  # fmt: skip


def is_parameter(dtype: int) -> bool:
    """Floats, and the integers that quantised weights are stored in; int64 and bool are sizes, indices and masks."""
    return dtype in _FLOATS or dtype in _INTEGERS_THAT_WEIGHTS_ARE_QUANTISED_TO


def parameters_of(view: GraphView) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters by name: stored tensors, and weights that ConstantOfShape makes of a stored shape.

    The latter are how ONNX's own light models spell their weights.
    """
    found = {name: tuple(t.dims) for name, t in view.constants.items() if is_parameter(t.data_type)}
    for node in view.nodes:
        if node.op == "ConstantOfShape" and not node.domain and node.inputs[0] in view.constants:
            fill = node.attrs.get("value")
            if fill is None or is_parameter(fill.data_type):
                shape = view.model.array(view.constants[node.inputs[0]])
                found[node.outputs[0]] = tuple(int(size) for size in shape.reshape(-1))
    return found
