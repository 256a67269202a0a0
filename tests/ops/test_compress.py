"""Compress: the axis that a condition chooses from stays, the others go."""

from __future__ import annotations

import numpy as np
from onnx.helper import make_node

from onnxprune.analyse import analyse
from tests.support.models import units
from tests.support.sandwich import between_matmuls, one_by_one

CONDITION = np.asarray([True, False, True, True, False])
MEASURED = {"y": (2, 3, 6), "out": (2, 3, 4)}


def test_other_axes_go() -> None:
    nodes = [make_node("Compress", ["h", "condition"], ["y"], axis=1)]
    coupling = analyse(between_matmuls(nodes, {"condition": CONDITION}), measured=MEASURED)
    assert units(coupling) == {"w1:1": one_by_one(6, "w1:1", "b1:0", "w2:0")}


def test_the_chosen_axis_stays() -> None:
    nodes = [make_node("Compress", ["h", "condition"], ["y"], axis=-1)]
    coupling = analyse(
        between_matmuls(nodes, {"condition": CONDITION}, reads=3), measured={"y": (2, 5, 3), "out": (2, 5, 4)}
    )
    assert coupling.groups == ()
    assert "a condition chooses among its indices" in {r.why.split(" [")[0] for r in coupling.refusals}
