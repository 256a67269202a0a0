"""CumSum is a sum, and exact along its axis too; CumProd is not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from tests.support.models import units
from tests.support.oracle import assert_prunes_exactly
from tests.support.sandwich import WIDTH, between_convs, between_matmuls, one_by_one


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("attrs", [{}, {"exclusive": 1}, {"reverse": 1}, {"exclusive": 1, "reverse": 1}])
@pytest.mark.parametrize("axis", [np.array(1), np.array([-3], np.int32)])
def test_a_running_sum_along_the_channels_is_exact(opset: int, attrs: dict[str, int], axis: np.ndarray) -> None:
    node = make_node("CumSum", ["h", "axis"], ["y"], **attrs)
    coupling = assert_prunes_exactly(between_convs([node], {"axis": axis}, opset=opset))
    assert units(coupling) == {"w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w2:1")}
    assert [g.exact for g in coupling.groups] == [True]


def test_a_running_sum_beside_the_channels_is_exact() -> None:
    coupling = assert_prunes_exactly(
        between_matmuls([make_node("CumSum", ["h", "axis"], ["y"])], {"axis": np.array(1)})
    )
    assert [(g.size, g.exact) for g in coupling.groups] == [(WIDTH, True)]


@pytest.mark.parametrize(("axis", "mixes"), [(2, ("products run along it",)), (1, ())])
def test_a_running_product_mixes_its_axis_alone(axis: int, mixes: tuple[str, ...]) -> None:
    model = between_matmuls([make_node("CumProd", ["h", "axis"], ["y"])], {"axis": np.array(axis)}, opset=26)
    coupling = analyse(model)
    assert units(coupling) == {"w1:1": one_by_one(WIDTH, "w1:1", "b1:0", "w2:0")}
    assert [g.mixes for g in coupling.groups] == [mixes]


def test_an_axis_that_is_data_freezes() -> None:
    model = between_matmuls([make_node("CumSum", ["h", "axis"], ["y"])])
    model.graph.input.append(onnx.helper.make_tensor_value_info("axis", onnx.TensorProto.INT64, []))
    coupling = analyse(model)
    assert coupling.groups == ()
    assert {(r.tensor, r.axis): r.why for r in coupling.refusals}[
        "b1", 0
    ] == "input 1 (axis) is computed from data [h:2]"
