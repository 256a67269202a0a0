"""A cache that is written in place: heads and head dims run through it, its steps stay."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly


@pytest.mark.parametrize(("opset", "mode"), [(24, "linear"), (25, "circular")])
def test_a_stored_cache_shrinks_with_what_is_written(opset: int, mode: str) -> None:
    """x [2, 3, 5] -> 4 columns, written into a cache [2, 6, 4] from a place each -> 3 columns."""
    nodes = [
        make_node("MatMul", ["x", "w1"], ["a"]),
        make_node("TensorScatter", ["past", "a", "at"], ["present"], axis=1, mode=mode),
        make_node("MatMul", ["present", "w2"], ["out"]),
    ]
    weights = {"w1": [5, 4], "past": [2, 6, 4], "w2": [4, 3], "at": np.array([1, 3])}
    model = make_model(nodes, {"x": [2, 3, 5]}, ["out"], weights, opset=opset)
    coupling = assert_prunes_exactly(model)
    assert units(coupling) == {"w1:1": [{"w1:1": [i], "past:2": [i], "w2:0": [i]} for i in range(4)]}
    (why,) = [r.why for r in coupling.refusals if (r.tensor, r.axis) == ("past", 1)]
    assert why == "steps of a sequence, written by their place"


def test_caches_that_are_inputs_shrink_if_they_may() -> None:
    nodes = [
        make_node("MatMul", ["x", "w1"], ["a"]),
        make_node("TensorScatter", ["past", "a"], ["present"]),
        make_node("MatMul", ["present", "w2"], ["out"]),
    ]
    inputs = {"x": [2, 3, 5], "past": [2, 6, 4]}
    model = make_model(nodes, inputs, ["out", "present"], {"w1": [5, 4], "w2": [4, 3]}, opset=24)
    assert units(analyse(model)) == {}
    found = units(analyse(model, allow_io_change=["past", "present"]))
    assert found == {"w1:1": [{"w1:1": [i], "w2:0": [i]} for i in range(4)]}
