"""Convolutions that slide over channels."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.ops.channel_conv import NEIGHBOURS
from tests.support.literals import constant
from tests.support.models import units
from tests.support.oracle import assert_prunes_exactly, random_feeds, run
from tests.support.pruned import pruned
from tests.support.sandwich import WIDTH, between_convs


def attention(front: list[int], kernel: list[int], **attrs: object) -> onnx.ModelProto:
    """h [2, 6, 4, 5] -> mean over space -> `front` -> Conv over channels -> Sigmoid, which scales h."""
    nodes = [
        make_node("GlobalAveragePool", ["h"], ["mean"]),
        make_node("Reshape", ["mean", "front"], ["row"]),
        make_node("Conv", ["row", "k"], ["mixed"], **attrs),
        make_node("Sigmoid", ["mixed"], ["gate"]),
        make_node("Reshape", ["gate", "back"], ["scale"]),
        make_node("Mul", ["h", "scale"], ["y"]),
    ]
    weights = {
        "k": kernel, "front": np.asarray(front, np.int64), "back": np.asarray([2, WIDTH, 1, 1], np.int64),
    }  # fmt: skip
    return between_convs(nodes, weights)


@pytest.mark.parametrize(
    "model",
    [
        attention([2, 1, WIDTH], [1, 1, 3], pads=[1, 1]),
        attention([0, 1, -1], [1, 1, 5], pads=[2, 2], strides=[1]),
        attention([2, 1, WIDTH], [1, 1, 2], pads=[1, 0], strides=[1], dilations=[1]),
        attention([2, 1, WIDTH, 1], [1, 1, 3, 1], auto_pad="SAME_UPPER"),
    ],
    ids=["3", "5", "2", "an image of one column"],
)
def test_channels_that_a_kernel_slides_over(model: onnx.ModelProto) -> None:
    coupling = assert_prunes_exactly(model)
    (group,) = coupling.groups
    assert (group.size, group.exact, group.mixes) == (WIDTH, False, (NEIGHBOURS,))
    assert units(coupling)[group.name] == [{"w1:0": [i], "b1:0": [i], "w2:1": [i]} for i in range(WIDTH)]


def test_what_stays_is_mixed_with_its_new_neighbours() -> None:
    model = attention([0, 1, -1], [1, 1, 3], pads=[1, 1])
    edited = pruned(model, {"w1:0": [0, 2, 5]})
    edited.graph.output.extend([onnx.ValueInfoProto(name="row"), onnx.ValueInfoProto(name="mixed")])
    for value in edited.graph.output[1:]:
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    coupling = analyse(edited)
    _, row, mixed = run(coupling.view.model, random_feeds(coupling))
    kernel, padded = constant(edited, "k")[0, 0], np.pad(row, [(0, 0), (0, 0), (1, 1)])
    assert row.shape == (2, 1, 3)
    for i in range(3):
        np.testing.assert_allclose(mixed[:, 0, i], padded[:, 0, i : i + 3] @ kernel, rtol=1e-5)


def test_a_picture_made_of_channels_stays() -> None:
    """It has neighbours above and below, which do not close up."""
    coupling = analyse(attention([2, 1, 2, 3], [1, 1, 3, 3], pads=[1, 1, 1, 1]))
    assert coupling.groups == ()
    assert "spatial axis [row:2]" in {r.why for r in coupling.refusals}


def test_members_of_blocks_keep_their_places() -> None:
    """A grouped convolution behind: its groups' members could change places, were it not for their neighbours."""
    model = attention([0, 1, -1], [1, 1, 3], pads=[1, 1])
    model.graph.node[-1].attribute.append(onnx.helper.make_attribute("group", 2))
    for tensor in model.graph.initializer:
        if tensor.name == "w2":
            halved = np.ascontiguousarray(onnx.numpy_helper.to_array(tensor)[:, : WIDTH // 2])
            tensor.CopyFrom(onnx.numpy_helper.from_array(halved, "w2"))
    coupling = analyse(model)
    assert coupling.balance.balanced == {}
    assert coupling.balance.reasons
    assert all(coupling.balance.reasons.values())
