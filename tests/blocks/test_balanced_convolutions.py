"""Each group of a grouped convolution loses inputs and outputs of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.edit import apply
from onnxprune.plan import plan_for
from tests.support.balanced import assert_changes_places, members
from tests.support.models import make_model
from tests.support.sandwich import between_convs

GROUPS, INSIDE = 3, 4
INPUTS = [[[g * INSIDE + m] for m in range(INSIDE)] for g in range(GROUPS)]
OUTPUTS = [[[g * 2 + m] for m in range(2)] for g in range(GROUPS)]


def grouped(*between: onnx.NodeProto, weights: dict[str, Sequence[int]] | None = None) -> onnx.ModelProto:
    """x -> Conv -> h [2, 12, 4, 5] -> `between` -> Conv of 3 groups of 4 -> [2, 6, 4, 5] -> Relu -> Conv."""
    nodes = [
        *between,
        make_node("Conv", ["changed" if between else "h", "wg", "bg"], ["g"], group=GROUPS),
        make_node("Relu", ["g"], ["y"]),
    ]
    sizes = {"wg": [2 * GROUPS, INSIDE, 1, 1], "bg": [2 * GROUPS], **(weights or {})}
    return between_convs(nodes, sizes, width=GROUPS * INSIDE, reads=2 * GROUPS)


def test_members_of_groups() -> None:
    coupling = assert_changes_places(grouped())
    assert list(members(coupling).values()) == [
        # the kernel has its inputs on an axis of their own: they are those of the output's group
        {"w1:0": INPUTS, "b1:0": INPUTS, "wg:1 by wg:0": [[[m] for m in range(INSIDE)]]},
        {"wg:0": OUTPUTS, "bg:0": OUTPUTS, "w2:1": OUTPUTS},
    ]


def test_the_kernel_is_cut_by_groups() -> None:
    """Group 0 keeps its inputs 1 and 3, group 1 keeps 0 and 1, group 2 keeps 2 and 3; one output of each goes."""
    coupling = analyse(grouped())
    inputs, outputs = members(coupling)
    made = plan_for(
        coupling, {inputs: [0, 2], outputs: [1]},
        blocks={inputs: [[3, 1], [0, 1], [2, 3]], outputs: [[0], [1], [0]]},
    )  # fmt: skip
    kept = (1, 3, 4, 5, 10, 11)
    assert made.tensors == {
        "w1": {0: kept}, "b1": {0: kept}, "wg": {0: (0, 3, 4)}, "bg": {0: (0, 3, 4)}, "w2": {1: (0, 3, 4)},
    }  # fmt: skip
    cut = made.rows["wg"][1]
    assert (cut.by, cut.indices) == (0, ((1, 3), (0, 1), (2, 3)))
    pruned = {t.name: numpy_helper.to_array(t) for t in apply(grouped(), made).to_proto().graph.initializer}
    dense = {t.name: numpy_helper.to_array(t) for t in grouped().graph.initializer}
    np.testing.assert_array_equal(pruned["wg"][1], dense["wg"][3][[0, 1]])
    np.testing.assert_array_equal(pruned["w2"], dense["w2"][:, [0, 3, 4]])


def test_statistics_per_group_do_not_hold_members_in_place() -> None:
    """Mean and variance of a group are those of its members in any order; scale and bias go with them."""
    nodes = [
        make_node("GroupNormalization", ["h", "scale", "shift"], ["changed"], num_groups=GROUPS, epsilon=1e-5)
    ]  # fmt: skip
    model = between_convs(
        [*nodes, make_node("Relu", ["changed"], ["y"])], {"scale": [12], "shift": [12]}, width=12, opset=21
    )
    coupling = assert_changes_places(model)
    flat = dict.fromkeys(("w1:0", "b1:0", "scale:0", "shift:0", "w2:1"), INPUTS)
    assert list(members(coupling).values()) == [flat]


def test_groups_that_cannot_go_are_blocks_too() -> None:
    """A picture per group is fed beside: its groups stay, and each loses channels of its own."""
    nodes = [
        make_node("Conv", ["x", "w1", "b1"], ["h"]),
        make_node("Reshape", ["h", "split"], ["by_group"]),
        make_node("Mul", ["by_group", "mask"], ["masked"]),
        make_node("Reshape", ["masked", "join"], ["joined"]),
        make_node("Conv", ["joined", "w2"], ["out"]),
    ]
    weights = {
        "w1": [12, 3, 1, 1], "b1": [12], "w2": [4, 12, 1, 1],
        "split": np.asarray([2, 3, 4, 5], np.int64).repeat([1, 1, 1, 1]), "join": np.asarray([2, 12, 5], np.int64),
    }  # fmt: skip
    weights |= {"w1": [12, 3, 1], "w2": [4, 12, 1]}
    model = make_model(nodes, {"x": [2, 3, 5], "mask": [3, 1, 1]}, ["out"], weights)
    coupling = assert_changes_places(model)
    assert [g.size for g in coupling.groups] == [INSIDE]
    assert list(members(coupling).values()) == [{"w1:0": INPUTS, "b1:0": INPUTS, "w2:1": INPUTS}]


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (make_node("LRN", ["h"], ["changed"], size=3), "may tell the indices of an axis apart"),
    ],
)
def test_an_order_among_channels_holds_them_in_place(node: onnx.NodeProto, why: str) -> None:
    coupling = analyse(grouped(node))
    assert INSIDE in {g.size for g in coupling.groups}
    (inside,) = [g.index for g in coupling.groups if g.size == INSIDE]
    assert inside not in coupling.balance.balanced
    assert why in coupling.balance.reasons[inside]
