"""What the file states of its intermediate values agrees with the edited graph, sizes and names of sizes."""

from __future__ import annotations

import numpy as np
import onnx
from onnx.helper import make_node, make_tensor_value_info

from tests.support.models import make_model
from tests.support.pruned import pruned


def stated(model: onnx.ModelProto, name: str) -> list[int | str]:
    """The dimensions that value_info gives a value: sizes, names, "" for neither."""
    (info,) = [v for v in model.graph.value_info if v.name == name]
    return [d.dim_value or d.dim_param for d in info.type.tensor_type.shape.dim]


def test_a_named_length_that_changes_loses_its_name() -> None:
    """Heads folded with the batch, as torch's exporter names them; other values of that name keep other lengths."""
    model = make_model(
        [
            make_node("MatMul", ["x", "w1"], ["h"]),
            make_node("Reshape", ["h", "fold"], ["folded"]),
            make_node("Softmax", ["folded"], ["soft"], axis=-1),
            make_node("Reshape", ["soft", "unfold"], ["y"]),
            make_node("MatMul", ["y", "w2"], ["out"]),
        ],
        {"x": ["batch", 5]},
        ["out"],
        {"w1": [5, 12], "w2": [12, 4], "fold": np.asarray([-1, 4]), "unfold": np.asarray([-1, 12])},
    )
    for name, shape in {"h": ["batch", 12], "folded": ["3*batch", 4], "soft": ["3*batch", 4]}.items():
        model.graph.value_info.append(make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    edited = pruned(model, {"w1:1": [0, 2]}, bind={"batch": 2})
    assert stated(edited, "h") == ["batch", 8]
    assert stated(edited, "folded") == ["", 4]
    assert stated(edited, "soft") == ["", 4]
