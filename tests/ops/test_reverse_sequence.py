"""ReverseSequence: time stays, channels go."""

from __future__ import annotations

import numpy as np
from onnx.helper import make_node

from onnxprune.analyse import analyse
from tests.support.models import units
from tests.support.oracle import assert_prunes_exactly
from tests.support.sandwich import between_matmuls, one_by_one

LENGTHS = np.asarray([5, 3], np.int64)


def test_channels_go() -> None:
    nodes = [make_node("ReverseSequence", ["h", "lengths"], ["y"], time_axis=1, batch_axis=0)]
    model = between_matmuls(nodes, {"lengths": LENGTHS})
    assert units(assert_prunes_exactly(model)) == {"w1:1": one_by_one(6, "w1:1", "b1:0", "w2:0")}


def test_the_axis_of_time_stays() -> None:
    nodes = [
        make_node("Transpose", ["h"], ["channels_first"], perm=[2, 0, 1]),
        make_node("ReverseSequence", ["channels_first", "lengths"], ["turned"]),
        make_node("Transpose", ["turned"], ["y"], perm=[1, 2, 0]),
    ]
    coupling = analyse(between_matmuls(nodes, {"lengths": LENGTHS}))
    assert coupling.groups == ()
    assert "time is reversed by position" in {r.why.split(" [")[0] for r in coupling.refusals}
