"""Softmax, LogSoftmax, Hardmax: which axes mix, before opset 13 and since."""

from __future__ import annotations

import pytest
from onnx.helper import make_node

from tests.support.models import units
from tests.support.oracle import assert_prunes_exactly
from tests.support.sandwich import WIDTH, between_convs, between_matmuls, one_by_one

OPS = ("Softmax", "LogSoftmax", "Hardmax")


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(
    ("opset", "attrs", "exact"),
    [
        (13, {}, True),  # the last axis: the image's width
        (13, {"axis": 2}, True),
        (13, {"axis": -3}, False),
        (17, {"axis": 1}, False),
        (12, {}, False),  # from axis 1 to the last
        (11, {"axis": 0}, False),
        (11, {"axis": -4}, False),
        (12, {"axis": 2}, True),
        (11, {"axis": -1}, True),
    ],
)
def test_what_the_distribution_runs_over_mixes(op: str, opset: int, attrs: dict[str, int], exact: bool) -> None:
    coupling = assert_prunes_exactly(between_convs([make_node(op, ["h"], ["y"], **attrs)], opset=opset))
    assert units(coupling) == {"w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w2:1")}
    assert [g.mixes for g in coupling.groups] == [() if exact else (f"{op} runs over it",)]


@pytest.mark.parametrize(("opset", "exact"), [(11, False), (13, True)])
def test_axis_1_of_three_says_another_thing_before_opset_13(opset: int, exact: bool) -> None:
    coupling = assert_prunes_exactly(between_matmuls([make_node("Softmax", ["h"], ["y"], axis=1)], opset=opset))
    assert [(g.size, g.exact) for g in coupling.groups] == [(WIDTH, exact)]
