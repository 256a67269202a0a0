"""What is a weight and what is not, and why; masks of weights that several read."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.helper import make_node

from onnxprune.graph.model import Model
from onnxprune.graph.view import GraphView
from onnxprune.sparsity.masking import put_masked
from onnxprune.sparsity.patterns import parse_pattern
from onnxprune.sparsity.wanted import Request, Target, settle
from onnxprune.sparsity.weights import find_weights
from tests.sparsity.layouts import LAYOUTS, MS, ints, model, weights_of

RNG = np.random.default_rng(3)
F32 = np.float32


def masked(proto: object, pattern: str = "2:4", share: float | None = None) -> tuple[dict[str, np.ndarray], list[str]]:
    """The stored arrays after the pattern, and why what could not be masked was not."""
    source = Model(proto)  # type: ignore[arg-type]
    view = GraphView(source)
    changed = GraphView(source.copy(), view)
    whys = []
    for target in settle(view, find_weights(view), Request(parse_pattern(pattern), share)).targets:
        whys.append(put_masked(changed, source, view, target))
    return {n: changed.model.array(t) for n, t in GraphView(changed.model).constants.items()}, [w for w in whys if w]


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_masked_where_it_is_summed_over(name: str) -> None:
    build, shape = LAYOUTS[name]
    w = (RNG.permutation(int(np.prod(shape))).reshape(shape) + 1).astype(F32)
    nodes, arrays, rows_of = build(w)
    found, whys = masked(model(nodes, arrays))
    assert whys == []
    before, after = rows_of(w), rows_of(found["w"])
    whole = before.shape[-1] // 4 * 4
    groups = after[..., :whole].reshape(*after.shape[:-1], -1, 4)
    assert ((groups != 0).sum(axis=-1) == 2).all()
    kept = np.sort(before[..., :whole].reshape(groups.shape), axis=-1)[..., 2:]
    assert np.array_equal(np.sort(groups, axis=-1)[..., 2:], kept)
    assert np.array_equal(after[..., whole:], before[..., whole:])  # the tail
    if name in ("split", "sliced"):  # what is not read stays
        assert np.count_nonzero(found["w"]) == w.size - rows_of(w).size // 2


def test_a_constant_node_and_a_body_are_weights_too() -> None:
    w = (RNG.permutation(32).reshape(8, 4) + 1).astype(F32)
    constant = make_node("Constant", [], ["c"], value=helper.make_tensor("c", TensorProto.FLOAT, w.shape, w))
    body = helper.make_graph(
        [make_node("MatMul", ["x", "wb"], ["out"])], "body", [], [helper.make_empty_tensor_value_info("out")],
        [helper.make_tensor("wb", TensorProto.FLOAT, w.shape, w)],
    )  # fmt: skip
    nodes = [
        constant, make_node("MatMul", ["x", "c"], ["h"]),
        make_node("If", ["q"], ["b"], then_branch=body, else_branch=body), make_node("Add", ["h", "b"], ["y"]),
    ]  # fmt: skip
    found, whys = masked(model(nodes, {"q": np.array(True)}))
    assert whys == []
    for name in ("c", "wb"):
        assert ((found[name].reshape(2, 4, 4) != 0).sum(axis=1) == 2).all()


def test_a_table_is_left_alone_also_where_it_is_tied() -> None:
    nodes = [
        make_node("Gather", ["e", "x"], ["h"]), make_node("Transpose", ["e"], ["t"], perm=[1, 0]),
        make_node("MatMul", ["h", "t"], ["y"]),
    ]  # fmt: skip
    _, weights = weights_of(model(nodes, {"e": RNG.normal(size=(16, 8)).astype(F32)}))
    assert weights.weights == ()
    assert [(p.name, p.op) for p in weights.passed] == [("e", "MatMul")]
    assert weights.passed[0].why.startswith("is a table that")


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ([make_node("Relu", ["x"], ["d"]), make_node("Conv", ["x", "d"], ["y"])], "computed while the model runs"),
        ([make_node("Sub", ["w", "w2"], ["d"]), make_node("MatMul", ["x", "d"], ["y"])], "by Sub"),
        ([make_node("MatMul", ["x", "w"], ["h"]), make_node("Add", ["h", "w"], ["y"])], "is also read by Add"),
        ([make_node("MatMul", ["x", "w"], ["h"]), make_node("Identity", ["w"], ["y"])], "is given out"),
        ([make_node("MatMulNBits", ["x", "w", "w2"], ["y"], domain=MS, K=8, N=8)], "packed"),
    ],
)  # fmt: skip
def test_what_is_not_reachable_is_listed(nodes: list[object], why: str) -> None:
    arrays = {n: RNG.normal(size=(8, 8)).astype(F32) for n in ("w", "w2")}
    _, weights = weights_of(model(nodes, arrays))  # type: ignore[arg-type]
    assert weights.weights == ()
    assert any(why in passed.why for passed in weights.passed)


def test_data_times_data_is_no_weight() -> None:
    nodes = [make_node("Relu", ["x"], ["a"]), make_node("MatMul", ["x", "a"], ["y"])]
    _, weights = weights_of(model(nodes, {}))
    assert (weights.weights, weights.passed) == ((), ())


def test_a_weight_that_is_read_both_ways_gets_both() -> None:
    w = RNG.normal(size=(8, 12)).astype(F32)
    nodes = [make_node("MatMul", ["x", "w"], ["h"]), make_node("Gemm", ["h", "w"], ["y"], transB=1)]
    found, whys = masked(model(nodes, {"w": w}))
    assert whys == []
    kept = found["w"] != 0
    assert (kept.reshape(2, 4, 12).sum(axis=1) == 2).all()
    assert (kept.reshape(8, 3, 4).sum(axis=2) == 2).all()


def test_another_pattern_both_ways_is_refused() -> None:
    nodes = [make_node("MatMul", ["x", "w"], ["h"]), make_node("Gemm", ["h", "w"], ["y"], transB=1)]
    _, whys = masked(model(nodes, {"w": RNG.normal(size=(8, 8)).astype(F32)}), "1:4")
    assert len(whys) == 1
    assert "read along different axes" in whys[0]


def test_parts_of_one_tensor_do_not_disturb_each_other() -> None:
    nodes = [
        make_node("Split", ["w"], ["a", "b"], axis=1, num_outputs=2), make_node("MatMul", ["x", "a"], ["h"]),
        make_node("MatMul", ["x", "b"], ["i"]), make_node("Add", ["h", "i"], ["y"]),
    ]  # fmt: skip
    found, whys = masked(model(nodes, {"w": RNG.normal(size=(8, 6)).astype(F32)}))
    assert whys == []
    assert ((found["w"].reshape(2, 4, 6) != 0).sum(axis=1) == 2).all()


def test_a_computed_shape_is_not_guessed() -> None:
    nodes = [
        make_node("Shape", ["x"], ["s"]), make_node("Reshape", ["w", "s"], ["t"]),
        make_node("Conv", ["x", "t"], ["y"]),
    ]  # fmt: skip
    _, weights = weights_of(model(nodes, {"w": np.ones((8, 8), F32), "unused": ints(1)}))
    assert weights.weights == ()
    assert len(weights.passed) == 1


@pytest.mark.parametrize(("pattern", "share"), [("unstructured", 0.75), ("block:1x4", 0.5), ("block:2x2", 0.5)])
def test_other_patterns_reach_their_share(pattern: str, share: float) -> None:
    w = RNG.normal(size=(8, 16, 3, 3)).astype(F32)
    found, _ = masked(model([make_node("Conv", ["x", "w"], ["y"])], {"w": w}), pattern, share)
    assert (found["w"] == 0).mean() == share


def test_a_target_has_its_own_numbers() -> None:
    view, weights = weights_of(model([make_node("MatMul", ["x", "w"], ["y"])], {"w": np.ones((8, 8), F32)}))
    (target,) = settle(view, weights, Request(parse_pattern("unstructured"), 0.5, layers={"w": "0.25"})).targets
    assert target == Target(weights.weights[0], parse_pattern("unstructured"), 0.25)
