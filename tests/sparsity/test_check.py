"""The checker against the definition, written as a loop, on thousands of random weights in all layouts and types."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx.helper import make_node

from onnxprune.errors import VerificationError
from onnxprune.sparsity.check import check
from onnxprune.sparsity.patterns import parse_pattern
from tests.sparsity.layouts import LAYOUTS, dequantised, model, weights_of

REALS = [np.float32, np.float16, np.float64, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn]


def follows(rows: np.ndarray, n: int, m: int) -> bool:
    """For every row, every whole group of m has at most n that are not zero."""
    flat = rows.reshape(-1, rows.shape[-1]) != 0
    return all(
        sum(row[start : start + m].tolist()) <= n
        for row in flat
        for start in range(0, flat.shape[1] // m * m, m)
    )  # fmt: skip


def nearly(rng: np.random.Generator, shape: tuple[int, ...], rows_of: object) -> np.ndarray:
    """Random weights of which every group of four along K has two zeros, and one group in some cases one too few."""
    w = rng.normal(size=shape) + 3
    rows = rows_of(np.arange(w.size).reshape(shape))  # type: ignore[operator]
    flat = rows.reshape(-1, rows.shape[-1])
    for row in flat:
        for start in range(0, len(row) // 4 * 4, 4):
            w.reshape(-1)[rng.choice(row[start : start + 4], 2, replace=False)] = 0
    if rng.random() < 0.5:
        w.reshape(-1)[rng.choice(flat.reshape(-1))] = 1
    return w


@pytest.mark.parametrize("name", LAYOUTS)
def test_compliance_is_what_the_definition_says(name: str) -> None:
    build, shape = LAYOUTS[name]
    answers = []
    for seed in range(24):
        rng = np.random.default_rng(seed)
        _, _, rows_of = build(np.zeros(shape))
        w = nearly(rng, shape, rows_of).astype(REALS[seed % len(REALS)])
        nodes, arrays, _ = build(w)
        view, weights = weights_of(model(nodes, arrays))
        (row,) = [r for r in check(view, weights, parse_pattern("2:4")).rows if "w" in r.weight.split(" + ")]
        expected = follows(rows_of(w.astype(np.float64)), 2, 4)
        assert row.compliant == expected, (name, seed)
        answers.append(expected)
    assert set(answers) == {True, False}


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, ml_dtypes.int4, ml_dtypes.uint4])
@pytest.mark.parametrize("along", [False, True])
def test_quantised_weights_count_from_their_zero_point(dtype: type, along: bool) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        nodes, arrays, rows_of = dequantised(np.zeros((4, 8, 1, 1)))
        zero = (rng.integers(1, 6, 4) if along else np.full(4, 3)).astype(np.int64)
        real = nearly(rng, (4, 8, 1, 1), rows_of)
        stored = np.where(real == 0, 0, 1).astype(np.int64) + zero[:, None, None, None]
        nodes[0].input.append("z")
        if along:
            arrays["s"] = np.full(4, 0.1, np.float32)
            nodes[0].attribute.append(make_node("a", [], [], axis=0).attribute[0])
        points = zero if along else zero[0]
        view, weights = weights_of(model(nodes, {**arrays, "w": stored.astype(dtype), "z": np.asarray(points, dtype)}))
        (row,) = check(view, weights, parse_pattern("2:4")).rows
        assert row.compliant == follows(rows_of(real), 2, 4)
        assert row.zeros == pytest.approx((real == 0).mean())


def test_eligible_and_paying_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    nodes = [
        make_node("Conv", ["x", "grouped"], ["a"], group=2), make_node("MatMul", ["a", "odd"], ["b"]),
        make_node("MatMul", ["b", "small"], ["c"]), make_node("MatMul", ["c", "large"], ["d"]),
        make_node("MatMul", ["d", "half"], ["y"]),
    ]  # fmt: skip
    arrays = {
        "grouped": rng.normal(size=(8, 4, 1, 1)), "odd": rng.normal(size=(6, 8)), "small": rng.normal(size=(8, 8)),
        "large": rng.normal(size=(256, 256)), "half": rng.normal(size=(256, 256)),
    }  # fmt: skip
    stored = {n: a.astype(np.float16 if n == "half" else np.float32) for n, a in arrays.items()}
    view, weights = weights_of(model(nodes, stored))
    for version, large in ((10, True), (11, False)):
        rows = {row.weight: row for row in check(view, weights, parse_pattern("2:4"), tensorrt=version).rows}
        assert {name: row.eligible for name, row in rows.items()} == {
            "grouped": False, "odd": False, "small": True, "large": True, "half": True
        }  # fmt: skip
        assert {name: row.pays for name, row in rows.items() if row.eligible} == {
            "small": False, "large": large, "half": True
        }  # fmt: skip
    assert not any(row.eligible for row in check(view, weights, parse_pattern("1:4")).rows)


def test_require_names_what_is_short() -> None:
    view, weights = weights_of(model([make_node("MatMul", ["x", "w"], ["y"])], {"w": np.ones((8, 8), np.float32)}))
    checked = check(view, weights, parse_pattern("2:4"))
    with pytest.raises(VerificationError, match=r"^0\.0 % of the eligible .* 100 % are required; not: w"):
        checked.require(1.0, parse_pattern("2:4"))
    checked.require(0.0, parse_pattern("2:4"))


@pytest.mark.parametrize("name", ["conv", "gemm", "gemm_transposed", "gemm_left", "matmul", "transposed"])
def test_polygraphy_says_the_same_where_it_looks(name: str) -> None:
    pruner = pytest.importorskip("polygraphy.tools.sparse").SparsityPruner
    build, shape = LAYOUTS[name]
    answers = set()
    for seed in range(16):
        _, _, rows_of = build(np.zeros(shape))
        nodes, arrays, _ = build(nearly(np.random.default_rng(seed), shape, rows_of).astype(np.float32))
        proto = model(nodes, arrays)
        theirs = pruner(proto)
        theirs.check()
        view, weights = weights_of(proto)
        (row,) = check(view, weights, parse_pattern("2:4")).rows
        assert row.compliant == ("w" in theirs.sparse_tensors)
        answers.add(row.compliant)
    assert answers == {True, False}


def test_polygraphy_takes_the_batch_for_the_axis() -> None:
    w = np.ones((4, 8, 4), np.float32)
    w[:, ::2] = 0  # two of four along K in every matrix of the batch
    proto = model([make_node("MatMul", ["x", "w"], ["y"])], {"w": w})
    theirs = pytest.importorskip("polygraphy.tools.sparse").SparsityPruner(proto)
    theirs.check()
    view, weights = weights_of(proto)
    assert check(view, weights, parse_pattern("2:4")).rows[0].compliant
    assert theirs.sparse_tensors == set()
