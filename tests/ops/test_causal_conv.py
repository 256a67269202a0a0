"""The stateful causal convolution: channel by channel, its state included."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.helper import make_node
from onnx.reference import ReferenceEvaluator

from onnxprune.analyse import analyse
from onnxprune.check import mask_classes
from onnxprune.edit import edit
from tests.support.models import make_model, units


@pytest.mark.parametrize("past", [False, True])
def test_channels_go_with_kernel_bias_and_state(past: bool) -> None:
    """x [2, 3, 6] -> Conv to 4 channels -> CausalConvWithState -> Conv to 2; the new state is read again.

    ONNX Runtime does not load opset 27 yet: onnx's reference implementation runs it.
    """
    weights = {"w1": [4, 3, 1], "k": [4, 1, 3], "b": [4], "w2": [2, 4, 1], "w3": [2, 4, 1]}
    if past:
        weights["state"] = [2, 4, 2]
    inputs = ["a", "k", "b", *(["state"] if past else [])]
    nodes = [
        make_node("Conv", ["x", "w1"], ["a"]),
        make_node("CausalConvWithState", inputs, ["c", "present"], activation="silu"),
        make_node("Conv", ["c", "w2"], ["out"]),
        make_node("Conv", ["present", "w3"], ["kept"]),
    ]
    coupling = analyse(make_model(nodes, {"x": [2, 3, 6]}, ["out", "kept"], weights, opset=27))
    expected = [{"w1:0": [i], "k:0": [i], "b:0": [i], "w2:1": [i], "w3:1": [i]} for i in range(4)]
    if past:
        expected = [unit | {"state:1": [i]} for i, unit in enumerate(expected)]
    assert units(coupling) == {"w1:0": expected}
    removed = coupling.removed_classes({0: [0, 3]})
    x = np.random.default_rng(0).normal(size=(2, 3, 6)).astype(np.float32)
    models = (edit(coupling, removed).model, mask_classes(coupling, removed), coupling.view.model)
    pruned, masked, dense = (ReferenceEvaluator(m.to_proto()).run(None, {"x": x}) for m in models)
    for a, b, c in zip(pruned, masked, dense, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
        assert np.abs(b - c).max() > 1e-2
