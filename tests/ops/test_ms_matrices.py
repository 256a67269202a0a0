"""Inverse and CDist of com.microsoft."""

from __future__ import annotations

import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.graph.contrib import MICROSOFT
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly
from tests.support.sandwich import between_matmuls, one_by_one


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean"])
def test_distances_are_sums_over_features(metric: str) -> None:
    """x [5, 3] and stored points, both projected -> distances."""
    nodes = [
        make_node("MatMul", ["x", "w1"], ["a"]),
        make_node("MatMul", ["points", "w2"], ["b"]),
        make_node("CDist", ["a", "b"], ["out"], domain=MICROSOFT, metric=metric),
    ]
    model = make_model(nodes, {"x": [5, 3]}, ["out"], {"w1": [3, 6], "points": [4, 3], "w2": [3, 6]})
    coupling = assert_prunes_exactly(model, tolerance=1e-3)
    assert units(coupling)["w1:1"] == one_by_one(6, "w1:1", "w2:1")
    assert all(g.exact for g in coupling.groups)
    assert coupling.cost().macs == 5 * 3 * 6 + 4 * 3 * 6 + 5 * 6 * 4


def test_a_matrix_that_is_inverted_stays() -> None:
    node = make_node("Inverse", ["square"], ["y"], domain=MICROSOFT)
    rows = make_node("MatMul", ["mix", "h"], ["square"])
    coupling = analyse(between_matmuls([rows, node], {"mix": [6, 5]}, reads=6))
    assert coupling.groups == ()
    why = {(r.tensor, r.axis): r.why for r in coupling.refusals}
    assert why["mix", 0] == "a matrix is inverted over it [square:1]"
    assert why["b1", 0] == "a matrix is inverted over it [square:2]"
    assert why["w2", 0] == "a matrix is inverted over it [y:2]"
