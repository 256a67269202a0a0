"""A size that folds the batch with the heads, shared by several readers: it keeps its proportion at every batch."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.check import mask_classes
from onnxprune.edit import edit
from tests.support.models import make_model, units
from tests.support.oracle import distance, run

STEPS, WIDTH, HEADS, SIZE = 4, 5, 6, 2


def folded(scalar: bool) -> onnx.ModelProto:
    """x [4, batch, 5] -> q and k [4, batch, 12] -> [4, batch * 6, 2] by one size -> their product per head -> 3.

    The size batch * 6 is a vector in one shape that both Reshapes read, or a `scalar` in a shape for each, as
    TorchScript spells torch's own multi-head attention.
    """
    nodes = [
        make_node("MatMul", ["x", "wq"], ["q"]),
        make_node("MatMul", ["x", "wk"], ["k"]),
        make_node("Shape", ["x"], ["batch"], start=1, end=2),
        *(_by_scalar() if scalar else _by_vector()),
        make_node("Reshape", ["q", "by_head_q"], ["qh"]),
        make_node("Reshape", ["k", "by_head_k"], ["kh"]),
        make_node("Mul", ["qh", "kh"], ["both"]),
        make_node("ReduceSum", ["both", "last"], ["score"], keepdims=0),
        make_node("Concat", ["steps", "batch", "heads"], ["apart"], axis=0),
        make_node("Reshape", ["score", "apart"], ["scores"]),
        make_node("MatMul", ["scores", "wo"], ["out"]),
    ]
    weights = {
        "wq": [WIDTH, HEADS * SIZE], "wk": [WIDTH, HEADS * SIZE], "wo": [HEADS, 3], "last": np.array([-1]),
        "steps": np.array([STEPS]), "heads": np.array([HEADS]), "size": np.array([SIZE]),
        "factor": np.array(HEADS), "first": np.array(0), "axis": np.array([0]),
    }  # fmt: skip
    return make_model(nodes, {"x": [STEPS, "batch", WIDTH]}, ["out"], weights)


def _by_vector() -> list[onnx.NodeProto]:
    return [
        make_node("Mul", ["batch", "heads"], ["folded"]),
        make_node("Concat", ["steps", "folded", "size"], ["by_head_q"], axis=0),
        make_node("Identity", ["by_head_q"], ["by_head_k"]),
    ]


def _by_scalar() -> list[onnx.NodeProto]:
    nodes = [make_node("Gather", ["batch", "first"], ["one"]), make_node("Mul", ["one", "factor"], ["folded"])]
    for each in "qk":
        nodes += [
            make_node("Unsqueeze", ["folded", "axis"], [f"folded_{each}"]),
            make_node("Concat", ["steps", f"folded_{each}", "size"], [f"by_head_{each}"], axis=0),
        ]
    return nodes


@pytest.mark.parametrize("scalar", [False, True])
@pytest.mark.parametrize("kept", [[0], [1, 4], [0, 2, 3, 5]])
def test_heads_folded_with_a_dynamic_batch(kept: list[int], scalar: bool) -> None:
    coupling = analyse(folded(scalar), bind={"batch": 2})
    name, members = next((name, m) for name, m in units(coupling).items() if len(m) == HEADS)
    assert members == [{"wq:1": [2 * h, 2 * h + 1], "wk:1": [2 * h, 2 * h + 1], "wo:0": [h]} for h in range(HEADS)]
    index = next(g.index for g in coupling.groups if g.name == name)
    removed = coupling.removed_classes({index: kept})
    pruned, masked = edit(coupling, removed).model, mask_classes(coupling, removed)
    for batch in (1, 2, 5):
        x = np.random.default_rng(batch).normal(size=(STEPS, batch, WIDTH)).astype(np.float32)
        assert distance(run(pruned, {"x": x}), run(masked, {"x": x})) <= 1e-5
