"""Convolutions whose kernels are mixed from data, whose places are, or that widen the picture."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from tests.support.balanced import assert_changes_places, members
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly
from tests.support.sandwich import between_convs

KERNELS, READS, MADE = 4, 6, 5
SPACE = [3, 3]


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


def conditional(batch: int) -> onnx.ModelProto:
    """CondConv (arXiv:1904.04971): a softmax over four kernels mixes each picture's own, applied as groups."""
    nodes = [
        make_node("Conv", ["x", "w1", "b1"], ["h"]),
        make_node("GlobalAveragePool", ["h"], ["pooled"]),
        make_node("Flatten", ["pooled"], ["means"]),
        make_node("Gemm", ["means", "w_route"], ["logits"]),
        make_node("Softmax", ["logits"], ["shares"], axis=-1),
        make_node("MatMul", ["shares", "bank"], ["flat"]),
        make_node("Reshape", ["flat", "kernels"], ["kernel"]),
        make_node("Reshape", ["h", "side_by_side"], ["row"]),
        make_node("Conv", ["row", "kernel"], ["convolved"], group=batch, pads=[1, 1, 1, 1]),
        make_node("Reshape", ["convolved", "apart"], ["y"]),
        make_node("Conv", ["y", "w2"], ["out"]),
    ]
    weights = {
        "w1": [READS, 3, 1, 1], "b1": [READS], "w_route": [READS, KERNELS], "bank": [KERNELS, MADE * READS * 9],
        "kernels": ints(batch * MADE, READS, *SPACE), "side_by_side": ints(1, batch * READS, 4, 5),
        "apart": ints(batch, MADE, 4, 5), "w2": [4, MADE, 1, 1],
    }  # fmt: skip
    return make_model(nodes, {"x": [batch, 3, 4, 5]}, ["out"], weights)


@pytest.mark.parametrize("batch", [1, 2])
def test_mixed_kernels(batch: int) -> None:
    """What is read, what is made, and how many kernels are mixed: the bank has all three."""
    coupling = assert_prunes_exactly(conditional(batch))
    bank = np.arange(MADE * READS * 9).reshape(MADE, READS, 9)
    assert list(units(coupling).values()) == [
        [
            {"w1:0": [i], "b1:0": [i], "w_route:0": [i], "bank:1": sorted(bank[:, i].reshape(-1).tolist())}
            for i in range(READS)
        ],
        [{"w_route:1": [k], "bank:0": [k]} for k in range(KERNELS)],
        [{"bank:1": bank[o].reshape(-1).tolist(), "w2:1": [o]} for o in range(MADE)],
    ]
    assert [g.exact for g in coupling.groups] == [True, False, True]
    assert coupling.groups[1].mixes == ("Softmax runs over it",)


def test_kernels_made_of_data_alone_stay_as_large_as_they_are() -> None:
    """A kernel that is an input of the model: its axes stay, and so does what they are linked with."""
    nodes = [
        make_node("Conv", ["x", "w1", "b1"], ["h"]),
        make_node("Conv", ["h", "kernel"], ["y"]),
        make_node("Conv", ["y", "w2"], ["out"]),
    ]
    weights = {"w1": [READS, 3, 1, 1], "b1": [READS], "w2": [4, MADE, 1, 1]}
    coupling = analyse(
        make_model(nodes, {"x": [2, 3, 4, 5], "kernel": [MADE, READS, 1, 1]}, ["out"], weights)
    )  # fmt: skip
    assert coupling.groups == ()
    why = {(r.tensor, r.axis): (r.why, r.help) for r in coupling.refusals}
    assert why["w1", 0] == ("an input of the model [kernel:1]", "name it with --allow-io-change if it may shrink")
    assert why["w2", 1] == ("an input of the model [kernel:0]", "name it with --allow-io-change if it may shrink")


def test_deformed_places_stay_and_channels_go() -> None:
    """Offsets are made by a convolution of h: two for each tap, which stay; channels go in and out of the kernel."""
    nodes = [
        make_node("Conv", ["h", "w_offset", "b_offset"], ["offset"]),
        make_node("DeformConv", ["h", "w_deform", "offset"], ["y"], kernel_shape=SPACE, pads=[1, 1, 1, 1]),
    ]
    weights = {"w_offset": [18, READS, 1, 1], "b_offset": [18], "w_deform": [MADE, READS, *SPACE]}
    coupling = analyse(between_convs(nodes, weights, width=READS, reads=MADE, opset=19))
    assert list(units(coupling).values()) == [
        [{"w1:0": [i], "b1:0": [i], "w_offset:1": [i], "w_deform:1": [i]} for i in range(READS)],
        [{"w_deform:0": [i], "w2:1": [i]} for i in range(MADE)],
    ]
    (why,) = {r.why for r in coupling.refusals if (r.tensor, r.axis) == ("w_offset", 0)}
    assert "offset" in why


@pytest.mark.parametrize("groups", [1, 2, READS])
def test_convolutions_that_widen_the_picture(groups: int) -> None:
    made = 4 // groups if groups < READS else 1
    nodes = [
        make_node("ConvTranspose", ["h", "wt", "bt"], ["t"], group=groups, strides=[2, 2]),
        make_node("Relu", ["t"], ["y"]),
    ]
    weights = {"wt": [READS, made, 2, 2], "bt": [made * groups]}
    model = between_convs(nodes, weights, width=READS, reads=made * groups)
    coupling = assert_prunes_exactly(model)
    found = list(units(coupling).values())
    if groups == 1:
        assert found == [
            [{"w1:0": [i], "b1:0": [i], "wt:0": [i]} for i in range(READS)],
            [{"wt:1": [i], "bt:0": [i], "w2:1": [i]} for i in range(made)],
        ]
    elif groups == READS:
        assert found == [
            [{"w1:0": [i], "b1:0": [i], "wt:0": [i], "bt:0": [i], "w2:1": [i]} for i in range(READS)]
        ]  # fmt: skip
    else:
        read, out = np.arange(READS).reshape(groups, -1), np.arange(made * groups).reshape(groups, -1)
        assert found == [
            [
                {**dict.fromkeys(("w1:0", "b1:0", "wt:0"), r.tolist()), **dict.fromkeys(("bt:0", "w2:1"), o.tolist())}
                for r, o in zip(read, out, strict=True)
            ],
            [dict.fromkeys(("w1:0", "b1:0", "wt:0"), r.tolist()) for r in read.T],
            [{"wt:1": [i], **dict.fromkeys(("bt:0", "w2:1"), o.tolist())} for i, o in enumerate(out.T)],
        ]


def test_members_of_groups_that_widen_the_picture_change_places() -> None:
    nodes = [
        make_node("ConvTranspose", ["h", "wt", "bt"], ["t"], group=3, strides=[2, 2]),
        make_node("Relu", ["t"], ["y"]),
    ]
    model = between_convs(nodes, {"wt": [12, 2, 2, 2], "bt": [6]}, width=12, reads=6)
    inputs = [[[4 * g + m] for m in range(4)] for g in range(3)]
    outputs = [[[2 * g + m] for m in range(2)] for g in range(3)]
    assert list(members(assert_changes_places(model)).values()) == [
        {"w1:0": inputs, "b1:0": inputs, "wt:0": inputs},
        {"wt:1 by wt:0": [[[0], [1]]], "bt:0": outputs, "w2:1": outputs},
    ]
