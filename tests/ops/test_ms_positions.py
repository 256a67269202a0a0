"""RelativePositionBias of com.microsoft: a table with a column per head."""

from __future__ import annotations

import numpy as np
import onnx
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.graph.contrib import MICROSOFT
from tests.support.models import make_model, units


def model() -> onnx.ModelProto:
    """MultiHeadAttention of 3 heads whose scores get a bias from a table; the CPU build has no kernel for the table."""
    nodes = [
        *(make_node("MatMul", ["x", f"w{n}"], [n]) for n in "qkv"),
        make_node("RelativePositionBias", ["table", "s", "s"], ["bias"], domain=MICROSOFT, max_distance=8),
        make_node("MultiHeadAttention", ["q", "k", "v", "", "", "bias"], ["y"], domain=MICROSOFT, num_heads=3),
        make_node("MatMul", ["y", "wo"], ["out"]),
    ]
    weights: dict[str, np.ndarray | list[int]] = {
        **{f"w{n}": [4, 6] for n in "qkv"}, "wo": [6, 4], "table": [8, 3], "s": np.array([5])
    }  # fmt: skip
    return make_model(nodes, {"x": [2, 5, 4]}, ["out"], weights)


def test_a_column_goes_with_its_head() -> None:
    coupling = analyse(model())
    (heads,) = [units(coupling)[g.name] for g in coupling.groups if g.kind == "heads"]
    assert [u["table:1"] for u in heads] == [[0], [1], [2]]
    why = {(r.tensor, r.axis): r.why for r in coupling.refusals}
    assert why["table", 0] == "a bucket is a distance between positions"
