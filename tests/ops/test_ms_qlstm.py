"""com.microsoft.DynamicQuantizeLSTM: weights transposed, gates along their last axis, scales for all or by column."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from onnxprune.analyse import analyse
from tests.support.models import units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import array, attributes, pruned, shapes
from tests.support.quantised import int8, ms_model, ms_node, scales, uint8

HIDDEN, INPUT = 5, 4
WHY = "its state is quantised by a range that takes in every hidden unit"


def lstm_model(
    directions: int = 1,
    by_column: bool = True,
    zero: int = 0,
    peepholes: bool = False,
    states: bool = True,
    **attrs: Any,
) -> onnx.ModelProto:
    """x [3, 2, 4] -> DynamicQuantizeLSTM -> Y_h [directions, 2, 5] -> MatMul with `leave` -> out.

    The weights are int8 with zero points 0 where `zero` is 0, else uint8 with that zero point.
    """  # fmt: skip
    d, columns = directions, 4 * HIDDEN
    store, kind = (uint8, np.uint8) if zero else (int8, np.int8)
    shape = (d, columns) if by_column else (d,)
    weights: dict[str, Any] = {
        "w": store(d, INPUT, columns), "r": store(d, HIDDEN, columns, seed=3), "b": [d, 8 * HIDDEN],
        "ws": scales(*shape), "rs": scales(*shape, seed=5),
    }  # fmt: skip
    weights |= {name: np.full(shape, zero, kind) for name in ("wz", "rz")}
    if peepholes:
        weights["p"] = [d, 3 * HIDDEN]
    if states:
        weights |= {"h0": [d, 2, HIDDEN], "c0": [d, 2, HIDDEN]}
    weights["leave"] = [HIDDEN, 3]
    given = ["h0", "c0"] if states else ["", ""]
    inputs = ["x", "w", "r", "b", "", *given, "p" if peepholes else "", "ws", "wz", "rs", "rz"]
    direction = {"direction": "bidirectional"} if d == 2 else {}
    nodes = [
        ms_node("DynamicQuantizeLSTM", inputs, ["", "last"], hidden_size=HIDDEN, **direction, **attrs),
        onnx.helper.make_node("MatMul", ["last", "leave"], ["out"]),
    ]
    return ms_model(nodes, {"x": [3, 2, INPUT]}, weights, rank=3)


def unit(h: int, *extra: str) -> dict[str, list[int]]:
    """What hidden unit h takes of an LSTM with scales by column."""
    gates = [h + HIDDEN * g for g in range(4)]
    found = {f"{name}:2": gates for name in ("w", "r")}
    found |= {f"{name}:1": gates for name in ("ws", "wz", "rs", "rz")}
    return found | {"r:1": [h], "b:1": [h + HIDDEN * g for g in range(8)], "h0:2": [h], "c0:2": [h], "leave:0": [h]}


def test_a_hidden_unit_is_a_column_of_every_gate() -> None:
    coupling = assert_prunes_exactly(lstm_model(), tolerance=0.0)
    (group,) = coupling.groups
    assert group.exact
    assert units(coupling) == {group.name: [unit(h) for h in range(HIDDEN)]}


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("peepholes", [False, True])
def test_every_form_is_exact_to_the_bit(directions: int, by_column: bool, peepholes: bool) -> None:
    coupling = assert_prunes_exactly(lstm_model(directions, by_column, peepholes=peepholes), tolerance=0.0)
    (group,) = coupling.groups
    assert (group.size, group.exact) == (HIDDEN, True)


@pytest.mark.parametrize("by_column", [False, True])
def test_the_oracle_puts_the_zero_point(by_column: bool) -> None:
    coupling = assert_prunes_exactly(lstm_model(by_column=by_column, zero=120, states=False), tolerance=0.0)
    assert [group.exact for group in coupling.groups] == [True]


@pytest.mark.parametrize("by_column", [False, True])
def test_zero_points_by_direction_mix(by_column: bool) -> None:
    """The oracle has one number for zero, so nothing shows the removal to be exact."""
    coupling = assert_prunes_exactly(lstm_model(2, by_column, zero=120))
    (group,) = coupling.groups
    assert (group.exact, group.mixes) == (False, (WHY,))


@pytest.mark.parametrize(
    ("activations", "exact"),
    [
        (["Sigmoid", "Tanh", "Tanh"], True),
        (["HardSigmoid", "Relu", "Softsign"], True),
        (["Sigmoid", "Sigmoid", "Tanh"], False),
        (["Sigmoid", "Tanh", "HardSigmoid"], False),
    ],
)
def test_a_cell_that_does_not_rest_at_zero_mixes(activations: list[str], exact: bool) -> None:
    coupling = assert_prunes_exactly(lstm_model(activations=activations))
    assert [group.exact for group in coupling.groups] == [exact]


def test_the_hidden_size_follows() -> None:
    model = lstm_model(directions=2)
    (group,) = analyse(model).groups
    edited = pruned(model, {group.name: [1, 3]})
    assert attributes(edited, "DynamicQuantizeLSTM") == {"direction": b"bidirectional", "hidden_size": 2}
    assert {name: shape for name, shape in shapes(edited).items() if name != "leave"} == {
        "w": (2, 4, 8), "r": (2, 2, 8), "b": (2, 16), "ws": (2, 8), "wz": (2, 8), "rs": (2, 8), "rz": (2, 8),
        "h0": (2, 2, 2), "c0": (2, 2, 2),
    }  # fmt: skip
    columns = [1, 3, 6, 8, 11, 13, 16, 18]
    np.testing.assert_array_equal(array(edited, "w"), array(model, "w")[:, :, columns], strict=True)
    np.testing.assert_array_equal(array(edited, "ws"), array(model, "ws")[:, columns], strict=True)
    np.testing.assert_array_equal(array(edited, "r"), array(model, "r")[:, [1, 3]][:, :, columns], strict=True)


def test_its_input_goes_with_rows_of_w() -> None:
    """What is zero in x has no part in x's range, which takes in zero."""
    model = lstm_model(states=False)
    first = onnx.helper.make_node("MatMul", ["features", "enter"], ["x"])
    model.graph.node.insert(0, first)
    model.graph.input[0].name = "features"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.eye(4, dtype=np.float32)[::-1] * 2, "enter"))
    coupling = assert_prunes_exactly(model, tolerance=0.0)
    assert units(coupling)["enter:1"] == [{"enter:1": [i], "w:1": [i]} for i in range(INPUT)]
