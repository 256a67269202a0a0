"""Deformable convolution: offsets per run of channels, groups as in Conv."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node
from onnx.reference import ReferenceEvaluator

from onnxprune.analyse import analyse
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import attributes, pruned, shapes


def deformable(runs: int = 1, group: int = 1, *, mask: bool = True) -> onnx.ModelProto:
    """x [1, 3, 5, 5] -> Conv to 4 channels, Convs to offsets and mask of 4 taps -> DeformConv to 4 -> Conv to 2."""
    nodes = [
        make_node("Conv", ["x", "w1"], ["a"]),
        make_node("Conv", ["x", "wo"], ["offset"], kernel_shape=[2, 2]),
        make_node("Conv", ["x", "wm"], ["m"], kernel_shape=[2, 2]),
        make_node("Sigmoid", ["m"], ["mask"]),
        make_node(
            "DeformConv", ["a", "w2", "offset", "b2", *(["mask"] if mask else [])], ["b"],
            group=group, offset_group=runs,
        ),
        make_node("Conv", ["b", "w3"], ["out"]),
    ]  # fmt: skip
    if not mask:
        nodes = [n for n in nodes if not {"m", "mask"} & set(n.output)]
    weights = {
        "w1": [4, 3, 1, 1], "wo": [8 * runs, 3, 2, 2], "w2": [4, 4 // group, 2, 2], "b2": [4], "w3": [2, 4, 1, 1],
        **({"wm": [4 * runs, 3, 2, 2]} if mask else {}),
    }  # fmt: skip
    return make_model(nodes, {"x": [1, 3, 5, 5]}, ["out"], weights, opset=19)


OUT = [{"w2:0": [i], "b2:0": [i], "w3:1": [i]} for i in range(4)]


@pytest.mark.parametrize("mask", [True, False])
def test_one_run_of_offsets_stays_and_channels_go(mask: bool) -> None:
    coupling = assert_prunes_exactly(deformable(mask=mask))
    assert units(coupling) == {"w1:0": [{"w1:0": [i], "w2:1": [i]} for i in range(4)], "w2:0": OUT}
    (why,) = {r.why for r in coupling.refusals if (r.tensor, r.axis) == ("wo", 0)}
    assert why == "one number per kernel tap [offset:1]"


def test_a_run_of_channels_goes_with_its_offsets() -> None:
    """Two runs of two channels: 8 offsets and 4 mask channels each; or the same member of both runs."""
    model = deformable(runs=2)
    found = units(assert_prunes_exactly(model))
    runs = [
        {
            "w1:0": [2 * r, 2 * r + 1], "w2:1": [2 * r, 2 * r + 1],
            "wo:0": list(range(8 * r, 8 * r + 8)), "wm:0": list(range(4 * r, 4 * r + 4)),
        } for r in range(2)
    ]  # fmt: skip
    members = [{"w1:0": [m, 2 + m], "w2:1": [m, 2 + m]} for m in range(2)]
    assert sorted(found.values(), key=str) == sorted([OUT, runs, members], key=str)
    (name,) = [name for name, units_ in found.items() if units_ == runs]
    after = pruned(model, {name: [1]})
    assert attributes(after, "DeformConv")["offset_group"] == 1
    assert {n: s for n, s in shapes(after).items() if n in ("wo", "wm", "w2")} == {
        "wo": (8, 3, 2, 2), "wm": (4, 3, 2, 2), "w2": (4, 2, 2, 2),
    }  # fmt: skip


def test_groups_as_in_a_convolution() -> None:
    model = deformable(group=2)
    found = units(assert_prunes_exactly(model))
    whole = [
        {"w1:0": [2 * g, 2 * g + 1], "w2:0": [2 * g, 2 * g + 1], "b2:0": [2 * g, 2 * g + 1], "w3:1": [2 * g, 2 * g + 1]}
        for g in range(2)
    ]
    assert whole in found.values()
    (name,) = [name for name, units_ in found.items() if units_ == whole]
    assert attributes(pruned(model, {name: [0]}), "DeformConv")["group"] == 1


def test_groups_and_runs_together_are_exact_or_frozen() -> None:
    assert_prunes_exactly(deformable(runs=4, group=2))
    assert_prunes_exactly(deformable(runs=2, group=2))


def test_its_work_is_that_of_a_convolution() -> None:
    dense = analyse(deformable(mask=False)).cost().macs
    # 4 channels x 25 places x 3, 8 offsets x 16 x 12 taps, 4 x 16 x (4 x 4), 2 x 16 x 4
    assert dense == 4 * 25 * 3 + 8 * 16 * 12 + 4 * 16 * 16 + 2 * 16 * 4


def test_a_deformable_layer_is_not_blind_to_its_offsets() -> None:
    """The test model's offsets are not all zero: another offset gives another output."""
    model = deformable(mask=False)
    x = np.random.default_rng(0).normal(size=(1, 3, 5, 5)).astype(np.float32)
    (moved,) = ReferenceEvaluator(model).run(None, {"x": x})
    for tensor in model.graph.initializer:
        if tensor.name == "wo":
            tensor.raw_data = np.zeros(tensor.dims, np.float32).tobytes()
    (still,) = ReferenceEvaluator(model).run(None, {"x": x})
    assert np.abs(moved - still).max() > 1e-2
