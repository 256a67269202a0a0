"""Channel permutation: the model computes what it did, and 2:4 keeps more."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.coupling.permuting import find_permutable
from onnxprune.runtime.ort import RunOptions, make_session
from onnxprune.sparsity.patterns import parse_pattern
from onnxprune.sparsity.reorder import reorder
from onnxprune.sparsity.wanted import Request, settle
from onnxprune.sparsity.weights import find_weights
from tests.sparsity.networks import residual_net
from tests.support.models import make_model


def run(proto: object, x: np.ndarray) -> np.ndarray:
    return make_session(proto.SerializeToString(), RunOptions(threads=1)).run(None, {"x": x})[0]  # type: ignore[attr-defined]


@pytest.mark.parametrize("weighted", [False, True])
def test_the_function_stays_and_more_is_kept(weighted: bool) -> None:
    proto = residual_net()
    coupling = analyse(proto)
    weights = find_weights(coupling.view)
    wanted = settle(coupling.view, weights, Request(parse_pattern("2:4")))
    rng = np.random.default_rng(0)
    norms = {(u.node, u.position): rng.random(u.shape[u.axis]) for w in weights.weights for u in w.uses}
    found = reorder(coupling, wanted.targets, seconds=1e6, norms=norms if weighted else None)
    # the channels of the shortcut, and those of the convolution with the depthwise one behind it
    assert {item.size for item in found.moved} == {16}
    assert len(found.moved) == 2
    assert all(item.after < item.before for item in found.moved)
    x = rng.normal(size=(2, 3, 8, 8)).astype(np.float32)
    dense, again = run(proto, x), run(found.model.to_proto(), x)
    assert np.abs(dense - again).max() < 1e-5 * np.abs(dense).max()
    assert not np.array_equal(found.model.array("w1"), coupling.view.model.array("w1"))


def test_what_is_seen_from_outside_or_told_apart_stays() -> None:
    nodes = [
        make_node("MatMul", ["x", "w0"], ["h"]), make_node("CumSum", ["h", "axis"], ["s"]),
        make_node("MatMul", ["s", "w1"], ["y"]),
    ]  # fmt: skip
    weights = {"w0": [4, 16], "w1": [16, 4], "axis": np.array(1, np.int64)}
    coupling = analyse(make_model(nodes, {"x": [2, 4]}, ["y"], weights))
    found, reasons = find_permutable(coupling)
    assert found == {}
    assert all(reasons.values()) or not coupling.groups
