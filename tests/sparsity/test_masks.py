"""Masks: exact choices, ties, tails; and against a plain loop on many random shapes."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.sparsity.masks import (
    block_sums,
    erk_shares,
    keep_blocks,
    keep_both_ways,
    keep_nm,
    keep_share,
)


def by_loop(scores: np.ndarray, n: int, m: int) -> np.ndarray:
    mask = np.ones(scores.shape, bool)
    outer, length, inner = scores.shape
    for o in range(outer):
        for g in range(length // m):
            for i in range(inner):
                group = scores[o, g * m : g * m + m, i].tolist()
                best = sorted(range(m), key=lambda k: (-group[k], k))[:n]
                for k in range(m):
                    mask[o, g * m + k, i] = k in best
    return mask


def test_two_of_four() -> None:
    scores = np.array([[[1.0], [4.0], [3.0], [2.0], [9.0], [9.0], [9.0], [9.0], [1.0]]])
    # ties go to the lower index; the ninth fills no group and stays
    assert keep_nm(scores, 2, 4)[0, :, 0].tolist() == [False, True, True, False, True, True, False, False, True]


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (3, 4), (4, 8), (1, 2), (7, 20)])
@pytest.mark.parametrize("seed", range(3))
def test_any_n_of_m_is_what_a_loop_finds(n: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 6)), int(rng.integers(1, 50)), int(rng.integers(1, 5)))
    scores = rng.integers(0, 5, shape).astype(np.float32)  # with ties
    assert np.array_equal(keep_nm(scores, n, m), by_loop(scores, n, m))


def test_a_share_is_exact_with_ties() -> None:
    scores = np.array([2.0, 1, 1, 1, 3, 0])
    assert keep_share(scores, 0.5).tolist() == [True, True, False, False, True, False]
    assert keep_share(scores, 0.01).all()
    assert keep_share(np.ones(10), 0.3).sum() == 7


def test_blocks() -> None:
    scores = np.zeros((3, 1, 5))
    scores[:2, 0, :2], scores[:2, 0, 2:4] = 1, 2
    mask = keep_blocks(scores, 2, 2, 0.5)
    # the weaker of two blocks goes; the third row and fifth column are in no whole block
    assert mask[:2, 0].tolist() == [[False, False, True, True, True]] * 2
    assert mask[2].all()
    assert block_sums(scores, 2, 2).tolist() == [[[4.0, 8.0]]]


def test_both_ways_is_2_4_along_both_axes() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((8, 12))
    mask = keep_both_ways(scores)
    assert (mask.reshape(2, 4, 12).sum(axis=1) == 2).all()
    assert (mask.reshape(8, 3, 4).sum(axis=2) == 2).all()
    one_way = keep_nm(scores[None], 2, 4)[0]
    assert scores[mask].sum() > 0.9 * scores[one_way].sum()


def test_erk_keeps_the_share_and_spares_small_layers() -> None:
    shapes = {"small": (8, 8), "large": (256, 256), "long": (16, 1024)}
    shares = erk_shares(shapes, 0.9)
    sizes = {name: np.prod(shape) for name, shape in shapes.items()}
    whole = sum(sizes.values())
    assert sum(shares[name] * sizes[name] for name in shapes) / whole == pytest.approx(0.9, abs=1e-9)
    assert shares["small"] == 0.0
    assert shares["large"] > shares["long"]
