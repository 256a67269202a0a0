"""Sizes that come out of a Split of a Shape, as ONNX Runtime's optimiser writes several Gathers of one."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.check import mask_classes
from onnxprune.edit import edit
from onnxprune.errors import PlanError
from tests.support.models import make_model, units
from tests.support.oracle import distance, run

STEPS, WIDTH, HEADS, SIZE = 4, 5, 3, 4


def by_heads(scale: str, given: bool = True) -> onnx.ModelProto:
    """x [batch, 4, 5] -> h [batch, 4, 12], times a `scale` -> [batch, 4, 3, 12 / 3] -> sums over heads -> 2.

    The scale is one of the width, or of batch times width, through a square root. The Split has its sizes `given`, or
    is into equal parts.
    """
    parts, equal = (["parts"], {}) if given else ([], {"num_outputs": 3})
    nodes = [
        make_node("MatMul", ["x", "wi"], ["h"]),
        make_node("Shape", ["h"], ["shape"]),
        make_node("Split", ["shape", *parts], ["batch", "steps", "width"], axis=0, **equal),
        make_node("Mul", ["batch", "width"], ["batch_width"]),
        make_node("Cast", [scale], ["float"], to=TensorProto.FLOAT),
        make_node("Sqrt", ["float"], ["scale"]),
        make_node("Div", ["h", "scale"], ["scaled"]),
        make_node("Div", ["width", "heads"], ["size"]),
        make_node("Concat", ["batch", "steps", "heads", "size"], ["apart"], axis=0),
        make_node("Reshape", ["scaled", "apart"], ["by_head"]),
        make_node("ReduceSum", ["by_head", "second"], ["summed"], keepdims=0),
        make_node("MatMul", ["summed", "wo"], ["out"]),
    ]  # fmt: skip
    weights = {
        "wi": [WIDTH, HEADS * SIZE], "wo": [SIZE, 2], "second": np.array([2]), "heads": np.array([HEADS]),
        **dict.fromkeys(parts, np.array([1, 1, 1])),
    }  # fmt: skip
    return make_model(nodes, {"x": ["batch", STEPS, WIDTH]}, ["out"], weights, opset=18)


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("kept", [[0], [1, 3], [0, 1, 2]])
def test_the_width_is_another_and_the_batch_stays_dynamic(kept: list[int], given: bool) -> None:
    coupling = analyse(by_heads("width", given), bind={"batch": 2})
    name, members = next((n, m) for n, m in units(coupling).items() if len(m) == SIZE)
    assert members == [{"wi:1": [k, 4 + k, 8 + k], "wo:0": [k]} for k in range(SIZE)]
    assert coupling.shapes.value["width"].tolist() == [12]
    assert coupling.shapes.varying["batch"].tolist() == [True]
    assert not coupling.shapes.varies("width")
    index = next(g.index for g in coupling.groups if g.name == name)
    removed = coupling.removed_classes({index: kept})
    edited = edit(coupling, removed)
    masked = mask_classes(coupling, removed)
    for batch in (1, 2, 5):
        x = np.random.default_rng(batch).normal(size=(batch, STEPS, WIDTH)).astype(np.float32)
        assert distance(run(edited.model, {"x": x}), run(masked, {"x": x})) <= 1e-5


def test_a_scale_of_which_nothing_says_how_it_grows_is_refused() -> None:
    coupling = analyse(by_heads("batch_width"), bind={"batch": 2})
    removed = coupling.removed_classes({coupling.groups[0].index: [0, 2]})
    with pytest.raises(PlanError, match=r"scale depends on a dynamic dimension and would have to be \[4\.89"):
        edit(coupling, removed)
