"""Channel shuffle: any channel can go, and the chain of reshapes becomes a Gather where one does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from tests.support.literals import constant, group_with, inputs_of, ops
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import attributes, pruned
from tests.support.sandwich import between_convs

ORDER = [0, 3, 1, 4, 2, 5]
"""Where the channels of a shuffle of six in two groups of three come from."""
CHANNELS = [{"w1:0": [c], "b1:0": [c], "w2:1": [ORDER.index(c)]} for c in range(6)]
FIVE = ((2, 2, 3, 4, 5), (0, 2, 1, 3, 4))  # the shape that splits the channels, and the transposition
MERGED = ((2, 2, 3, 20), (0, 2, 1, 3))
FOLDED = ((4, 3, 4, 5), (0, 1, 2, 3))


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


def chain(split: Sequence[int], perm: Sequence[int], joined: Sequence[int] = (2, 6, 4, 5)) -> onnx.ModelProto:
    """x -> Conv w1, b1 -> h [2, 6, 4, 5] -> Reshape, Transpose, Reshape -> y -> Conv w2."""
    return between_convs(
        [
            make_node("Reshape", ["h", "split"], ["s"]),
            make_node("Transpose", ["s"], ["t"], perm=perm),
            make_node("Reshape", ["t", "joined"], ["y"]),
        ],
        {"split": ints(*split), "joined": ints(*joined)},
    )


@pytest.mark.parametrize(("split", "perm"), [FIVE, MERGED, ((2, -1, 3, 4, 5), FIVE[1])], ids=["5-D", "4-D", "implied"])
def test_every_channel_is_a_unit(split: tuple[int, ...], perm: tuple[int, ...]) -> None:
    model = chain(split, perm)
    assert units(assert_prunes_exactly(model, seeds=range(5))) == {"w1:0": CHANNELS}


def test_the_chain_becomes_a_gather() -> None:
    edited = pruned(chain(*FIVE), {"w1:0": [0, 2, 3, 5]})
    assert ops(edited) == ["Conv", "Gather", "Conv"]
    assert inputs_of(edited, "Gather", 1) == [[0, 2, 1, 3]]
    assert attributes(edited, "Gather") == {"axis": 1}
    assert {t.name for t in edited.graph.initializer} == {"w1", "b1", "w2", "y_gather"}
    assert not {i.name for i in edited.graph.value_info} & {"s", "t"}


def test_what_is_left_in_its_order_is_not_moved() -> None:
    edited = pruned(chain(*FIVE), {"w1:0": [0, 1, 4, 5]})
    assert ops(edited) == ["Conv", "Identity", "Conv"]


def test_a_chain_of_which_nothing_goes_stays_byte_for_byte() -> None:
    model = make_model(
        [
            *chain(*FIVE).graph.node,
            make_node("Conv", ["out", "w3"], ["more"]),
            make_node("Conv", ["more", "w4"], ["last"]),
        ],
        {"x": [2, 3, 4, 5]},
        ["last"],
        {
            "w1": [6, 3, 1, 1], "b1": [6], "w2": [4, 6, 1, 1], "w3": [5, 4, 1, 1], "w4": [2, 5, 1, 1],
            "split": ints(*FIVE[0]), "joined": ints(2, 6, 4, 5),
        },
    )  # fmt: skip
    edited = pruned(model, {"w3:0": [1, 3]})
    assert [n.SerializeToString() for n in edited.graph.node] == [n.SerializeToString() for n in model.graph.node]
    assert constant(edited, "split").tolist() == [2, 2, 3, 4, 5]


def test_sizes_computed_from_a_dynamic_batch_fall_away_with_the_chain() -> None:
    """As TorchScript writes view(batch, 2, channels // 2, h, w)."""
    model = make_model(
        [
            make_node("Conv", ["x", "w1"], ["h"]),
            make_node("Shape", ["h"], ["shape"]),
            make_node("Slice", ["shape", "zero", "one"], ["batch"]),
            make_node("Slice", ["shape", "one", "two"], ["channels"]),
            make_node("Div", ["channels", "two"], ["half"]),
            make_node("Concat", ["batch", "two", "half", "place"], ["split"], axis=0),
            make_node("Concat", ["batch", "channels", "place"], ["joined"], axis=0),
            make_node("Reshape", ["h", "split"], ["s"]),
            make_node("Transpose", ["s"], ["t"], perm=[0, 2, 1, 3, 4]),
            make_node("Reshape", ["t", "joined"], ["y"]),
            make_node("Conv", ["y", "w2"], ["out"]),
        ],
        {"x": ["batch", 3, 4, 5]},
        ["out"],
        {
            "w1": [6, 3, 1, 1], "w2": [4, 6, 1, 1], "zero": ints(0), "one": ints(1), "two": ints(2),
            "place": ints(4, 5),
        },
    )  # fmt: skip
    assert_prunes_exactly(model, bind={"batch": 2}, seeds=range(4))
    edited = pruned(model, {"w1:0": [1, 3]}, bind={"batch": 2})
    assert ops(edited) == ["Conv", "Gather", "Conv"]
    assert {t.name for t in edited.graph.initializer} == {"w1", "w2", "y_gather"}


def test_channels_shuffled_on_their_way_to_the_last_axis() -> None:
    """Transposed to NHWC in the same breath: a Gather, then a Transpose."""
    model = make_model(
        [
            make_node("Conv", ["x", "w1"], ["h"]),
            make_node("Reshape", ["h", "split"], ["s"]),
            make_node("Transpose", ["s"], ["t"], perm=[0, 3, 4, 2, 1]),
            make_node("Reshape", ["t", "joined"], ["y"]),
            make_node("MatMul", ["y", "w2"], ["out"]),
        ],
        {"x": [2, 3, 4, 5]},
        ["out"],
        {"w1": [6, 3, 1, 1], "w2": [6, 4], "split": ints(2, 2, 3, 4, 5), "joined": ints(2, 4, 5, 6)},
    )
    coupling = assert_prunes_exactly(model, seeds=range(4))
    assert units(coupling) == {"w1:0": [{"w1:0": [c], "w2:0": [ORDER.index(c)]} for c in range(6)]}
    edited = pruned(model, {"w1:0": [0, 2, 3, 5]})
    assert ops(edited) == ["Conv", "Gather", "Transpose", "MatMul"]
    assert inputs_of(edited, "Gather", 1) == [[0, 2, 1, 3]]
    assert attributes(edited, "Transpose") == {"perm": [0, 2, 3, 1]}


def test_two_axes_are_shuffled_at_once() -> None:
    model = make_model(
        [
            make_node("MatMul", ["w1", "x"], ["rows"]),
            make_node("MatMul", ["rows", "w2"], ["h"]),
            make_node("Reshape", ["h", "split"], ["s"]),
            make_node("Transpose", ["s"], ["t"], perm=[1, 0, 3, 2]),
            make_node("Reshape", ["t", "joined"], ["y"]),
            make_node("Einsum", ["y", "w3"], ["out"], equation="rc,rck->k"),
        ],
        {"x": [3, 5]},
        ["out"],
        {"w1": [6, 3], "w2": [5, 4], "w3": [6, 4, 7], "split": ints(2, 3, 2, 2), "joined": ints(6, 4)},
    )
    coupling = assert_prunes_exactly(model, seeds=range(4))
    assert units(coupling) == {
        "w1:0": [{"w1:0": [r], "w3:0": [ORDER.index(r)]} for r in range(6)],
        "w2:1": [{"w2:1": [c], "w3:1": [[0, 2, 1, 3].index(c)]} for c in range(4)],
    }
    edited = pruned(model, {"w1:0": [0, 2, 3, 5], "w2:1": [1, 2, 3]})
    assert ops(edited) == ["MatMul", "MatMul", "Gather", "Gather", "Einsum"]
    assert [constant(edited, n.input[1]).tolist() for n in edited.graph.node if n.op_type == "Gather"] == [
        [0, 2, 1, 3],
        [1, 0, 2],
    ]


def test_a_pixel_shuffle_is_no_permutation_of_channels() -> None:
    model = between_convs(
        [
            make_node("Reshape", ["h", "split"], ["s"]),
            make_node("Transpose", ["s"], ["t"], perm=[0, 1, 4, 2, 5, 3]),
            make_node("Reshape", ["t", "joined"], ["y"]),
        ],
        {"split": ints(2, 2, 2, 2, 4, 5), "joined": ints(2, 2, 8, 10)},
        width=8,
        reads=2,
    )
    assert units(assert_prunes_exactly(model))["w1:0"] == [
        {"w1:0": [4 * c + i for i in range(4)], "b1:0": [4 * c + i for i in range(4)], "w2:1": [c]} for c in range(2)
    ]


@pytest.mark.parametrize("reader", ["output", "node"])
def test_a_value_in_between_that_someone_else_reads_is_left_to_the_factors(reader: str) -> None:
    nodes = [*chain(*FIVE).graph.node]
    if reader == "node":
        nodes.append(make_node("Relu", ["s"], ["seen"]))
    model = make_model(
        nodes,
        {"x": [2, 3, 4, 5]},
        ["out", "seen" if reader == "node" else "s"],
        {
            "w1": [6, 3, 1, 1], "b1": [6], "w2": [4, 6, 1, 1], "split": ints(*FIVE[0]),
            "joined": ints(2, 6, 4, 5),
        },
    )  # fmt: skip
    assert analyse(model).groups == ()


def test_shufflenet_unit_with_two_branches() -> None:
    """ShuffleNetV2: half goes through, half through convolutions, joined and shuffled (https://arxiv.org/abs/1807.11164)."""

    def unit(x: str, n: int) -> list[onnx.NodeProto]:
        return [
            make_node("Split", [x], [f"through{n}", f"in{n}"], axis=1),
            make_node("Conv", [f"in{n}", f"a{n}"], [f"one{n}"]),
            make_node("Relu", [f"one{n}"], [f"two{n}"]),
            make_node("Conv", [f"two{n}", f"d{n}"], [f"three{n}"], group=3, pads=[1, 1, 1, 1]),
            make_node("Conv", [f"three{n}", f"b{n}"], [f"four{n}"]),
            make_node("Relu", [f"four{n}"], [f"branch{n}"]),
            make_node("Concat", [f"through{n}", f"branch{n}"], [f"both{n}"], axis=1),
            make_node("Reshape", [f"both{n}", "split"], [f"s{n}"]),
            make_node("Transpose", [f"s{n}"], [f"t{n}"], perm=[0, 2, 1, 3, 4]),
            make_node("Reshape", [f"t{n}", "joined"], [f"y{n}"]),
        ]

    model = make_model(
        [
            make_node("Conv", ["x", "w1"], ["h"]),
            *unit("h", 1),
            *unit("y1", 2),
            make_node("Conv", ["y2", "w2"], ["out"]),
        ],
        {"x": [2, 3, 4, 5]},
        ["out"],
        {
            "w1": [6, 3, 1, 1], "w2": [4, 6, 1, 1], "split": ints(2, 2, 3, 4, 5), "joined": ints(2, 6, 4, 5),
            **{f"a{n}": [3, 3, 1, 1] for n in (1, 2)}, **{f"b{n}": [3, 3, 1, 1] for n in (1, 2)},
            **{f"d{n}": [3, 1, 3, 3] for n in (1, 2)},
        },
    )  # fmt: skip
    coupling = assert_prunes_exactly(model, seeds=range(6))
    found = {name: len(members) for name, members in units(coupling).items()}
    assert sum(found.values()) == 16
    # After the first shuffle the halves are h0 b0 h1 | b1 h2 b2, after the second h0 c0 b0 c1 h1 c2.
    first = group_with(model, "w1:0", 0)
    assert units(coupling)[first] == [
        {"w1:0": [0], "w2:1": [0]},
        {"w1:0": [1], "w2:1": [4]},
    ]
    assert units(coupling)[group_with(model, "a1:0", 0)][1] == {"a1:0": [1], "d1:0": [1], "b1:1": [1]}


def test_grouped_convolutions_around_a_shuffle() -> None:
    """ShuffleNetV1 (https://arxiv.org/abs/1707.01083): what may go takes the same members out of every group."""
    model = make_model(
        [
            make_node("Conv", ["x", "w1"], ["h"], group=2),
            make_node("Reshape", ["h", "split"], ["s"]),
            make_node("Transpose", ["s"], ["t"], perm=[0, 2, 1, 3, 4]),
            make_node("Reshape", ["t", "joined"], ["y"]),
            make_node("Conv", ["y", "w2"], ["out"], group=2),
        ],
        {"x": [2, 4, 4, 5]},
        ["out"],
        {"w1": [8, 2, 1, 1], "w2": [6, 4, 1, 1], "split": ints(2, 2, 4, 4, 5), "joined": ints(2, 8, 4, 5)},
    )
    coupling = assert_prunes_exactly(model, seeds=range(4))
    assert units(coupling) == {"w1:0": [{"w1:0": [0, 2, 4, 6], "w2:1": [0, 1]}, {"w1:0": [1, 3, 5, 7], "w2:1": [2, 3]}]}
