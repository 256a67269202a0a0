"""Groups that are built alike share one threshold, those that are not do not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxprune.analyse import analyse
from onnxprune.importance import Scores, score
from onnxprune.plan import plan
from onnxprune.plan.structures import structures
from onnxprune.types import Budget
from tests.support.models import make_model


def stack(*kernels: int, activation: str = "Relu") -> onnx.ModelProto:
    """A chain of convolutions of 4 channels with these kernels, padded to keep the size, and a last one of 1x1."""
    nodes, weights, value = [], {}, "x"
    for k, size in enumerate(kernels):
        border = [size // 2] * 4
        nodes += [
            helper.make_node("Conv", [value, f"w{k}"], [f"c{k}"], pads=border),
            helper.make_node(activation, [f"c{k}"], [f"r{k}"]),
        ]
        weights[f"w{k}"], value = (4, 3 if k == 0 else 4, size, size), f"r{k}"
    nodes.append(helper.make_node("Conv", [value, "last"], ["y"]))
    return make_model(nodes, {"x": (1, 3, 8, 8)}, ["y"], {**weights, "last": (2, 4, 1, 1)})


def alike(model: onnx.ModelProto) -> list[int]:
    """Per group the number of the first group that is built like it."""
    found = structures(analyse(model))
    return [found.index(structure) for structure in found]


def test_groups_of_the_same_kernels_are_alike() -> None:
    assert alike(stack(3, 3, 3, 3)) == [0, 0, 0, 3]  # what the last one makes is read by a 1x1
    assert alike(stack(3, 3, 5, 5, 5)) == [0, 1, 2, 2, 4]


def test_widths_do_not_matter() -> None:
    from tests.support.planning import conv_chain

    assert alike(conv_chain((8, 32, 16))) == [0, 0, 0]


@pytest.mark.parametrize(
    ("ranking", "expected"),
    [
        pytest.param("local", [2, 2, 2, 2], id="each by itself"),
        pytest.param("global", [1, 1, 2, 4], id="all together"),
        pytest.param("isomorphic", [1, 1, 4, 2], id="the first three, and the last by itself"),
    ],
)
def test_thresholds(ranking: str, expected: list[int]) -> None:
    coupling = analyse(stack(3, 3, 3, 3))
    values = ([1, 2, 3, 40], [4, 5, 6, 41], [20, 21, 22, 42], [60, 61, 62, 63])
    scores = Scores(tuple(np.asarray(v, float) for v in values), "by hand")
    chosen = plan(coupling, scores, Budget(ratio=0.5), round_to=1, ranking=ranking)
    assert [len(group.kept) for group in chosen.groups] == expected
    assert chosen.settings["ranking"] == ranking


def test_a_group_with_a_ratio_of_its_own_stands_aside() -> None:
    coupling = analyse(stack(3, 3, 3))
    scores = Scores(tuple(np.asarray([1, 2, 3, 4], float) * k for k in (1, 10, 1)), "by hand")
    chosen = plan(coupling, scores, Budget(ratio=0.5, ratios={"w0": 0.0}), round_to=1, ranking="isomorphic")
    assert [len(group.kept) for group in chosen.groups] == [4, 2, 2]


def test_a_budget_is_met_with_it() -> None:
    coupling = analyse(stack(3, 3, 5, 5, 5))
    chosen = plan(coupling, score(coupling), Budget(max_macs=0.5), round_to=1, ranking="isomorphic")
    assert chosen.before is not None
    assert chosen.after is not None
    assert chosen.after.macs <= 0.5 * chosen.before.macs
