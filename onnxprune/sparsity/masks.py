"""Which elements stay (bool masks), chosen by scores; all vectorised, equal scores decided by the lower index.

An N:M group that is not full, at the end of an axis that M does not divide, stays as it is: TensorRT looks at whole
groups alone, and so does the checker. Blocks that are not full at an edge stay likewise.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_RANKED = 16  # group sizes up to which comparing all pairs is faster than sorting
_CHUNK = 1 << 18  # scores that are compared at a time: they stay in the cache


def keep_nm(scores: np.ndarray, n: int, m: int) -> np.ndarray:
    """The `n` largest of every `m` scores along axis 1 of [outer, K, inner] stay."""
    outer, length, inner = scores.shape
    whole = length // m
    mask = np.ones(scores.shape, bool)
    if not whole:
        return mask
    grouped = scores[:, : whole * m].reshape(outer, whole, m, inner)
    kept = mask[:, : whole * m].reshape(outer, whole, m, inner)
    choose = _by_pairs if m <= _RANKED else _by_order
    if outer >= whole:
        step = max(1, _CHUNK // max(1, whole * m * inner))
        for start in range(0, outer, step):
            kept[start : start + step] = choose(grouped[start : start + step], n)
    else:
        step = max(1, _CHUNK // max(1, outer * m * inner))
        for start in range(0, whole, step):
            kept[:, start : start + step] = choose(grouped[:, start : start + step], n)
    mask[:, : whole * m] = kept.reshape(outer, whole * m, inner)
    return mask


def _by_pairs(groups: np.ndarray, n: int) -> np.ndarray:
    """The n largest along axis 2, by counting for each how many are larger."""
    size = groups.shape[2]
    members = [np.ascontiguousarray(groups[:, :, i]) for i in range(size)]
    larger = [np.zeros(members[0].shape, np.int8) for _ in range(size)]
    for i in range(size):
        for j in range(i + 1, size):
            later_wins = members[j] > members[i]
            larger[i] += later_wins
            larger[j] += ~later_wins
    return np.stack([count < n for count in larger], axis=2)


def _by_order(groups: np.ndarray, n: int) -> np.ndarray:
    order = np.argsort(-groups, axis=2, kind="stable")
    kept = np.zeros(groups.shape, bool)
    np.put_along_axis(kept, order[:, :, :n], True, axis=2)
    return kept


def keep_blocks(scores: np.ndarray, rows: int, columns: int, share: float) -> np.ndarray:
    """Of [outputs, taps, K], blocks of `rows` x `columns` at one tap; the share with the least sums goes."""
    sums = block_sums(scores, rows, columns)
    return spread_blocks(keep_share(sums, share), scores.shape, rows, columns)


def block_sums(values: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The sum of every whole block of [outputs, taps, K]: [outputs // rows, taps, K // columns]."""
    high, wide = values.shape[0] // rows, values.shape[2] // columns
    whole = values[: high * rows, :, : wide * columns]
    return np.asarray(whole.reshape(high, rows, values.shape[1], wide, columns).sum(axis=(1, 4), dtype=np.float64))


def spread_blocks(kept: np.ndarray, shape: tuple[int, ...], rows: int, columns: int) -> np.ndarray:
    """A mask of elements from one of blocks; what lies in no whole block stays."""
    mask = np.ones(shape, bool)
    high, wide = kept.shape[0] * rows, kept.shape[2] * columns
    mask[:high, :, :wide] = kept.repeat(rows, axis=0).repeat(columns, axis=2)
    return mask


def keep_share(scores: np.ndarray, share: float) -> np.ndarray:
    """All but the `share` of least scores, rounded to whole elements, of any shape."""
    count = round(scores.size * share)
    mask = np.ones(scores.size, bool)
    if count:
        flat = scores.reshape(-1)
        bound = np.partition(flat, count - 1)[count - 1]
        mask[flat < bound] = False
        ties = np.flatnonzero(flat == bound)
        mask[ties[len(ties) - (count - (scores.size - np.count_nonzero(mask))) :]] = False
    return mask.reshape(scores.shape)


def erk_shares(shapes: Mapping[str, tuple[int, ...]], share: float) -> dict[str, float]:
    """Shares of zeros per layer, more in larger ones, together `share` (ERK: Evci et al. 2020, after Mocanu et al.).

    A layer's density is in proportion to the sum of its dimensions divided by their product, and at most 1.
    """
    sizes = {name: float(np.prod(shape)) for name, shape in shapes.items()}
    raw = {name: float(sum(shape)) / sizes[name] for name, shape in shapes.items()}
    dense: set[str] = set()
    while True:
        rest = [name for name in shapes if name not in dense]
        budget = (1 - share) * sum(sizes.values()) - sum(sizes[name] for name in dense)
        weight = sum(raw[name] * sizes[name] for name in rest)
        factor = budget / weight if weight else 0.0
        full = [name for name in rest if factor * raw[name] > 1]
        if not full or budget <= 0:
            break
        dense.update(full)
    return {name: 0.0 if name in dense else 1 - max(factor, 0.0) * raw[name] for name in shapes}


def _tile_patterns() -> np.ndarray:
    """The 90 masks of 4x4 with two in every row and every column, [90, 16]."""
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    rows = np.zeros((len(pairs), 4), bool)
    for index, pair in enumerate(pairs):
        rows[index, list(pair)] = True
    picks = np.stack(np.meshgrid(*[np.arange(len(pairs))] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    tiles = rows[picks]
    return np.asarray(tiles[(tiles.sum(axis=1) == 2).all(axis=1)].reshape(-1, 16))


def keep_both_ways(scores: np.ndarray) -> np.ndarray:
    """2:4 along both axes of a matrix at once, exactly two in every row and column of each 4x4 tile.

    The best of the 90 such masks per tile (transposable masks: Hubara et al. 2021); what lies in no whole tile stays.
    """
    high, wide = scores.shape[0] // 4, scores.shape[1] // 4
    tiles = scores[: high * 4, : wide * 4].reshape(high, 4, wide, 4).transpose(0, 2, 1, 3).reshape(-1, 16)
    patterns = _tile_patterns()
    best = np.empty(len(tiles), np.int64)
    for start in range(0, len(tiles), _CHUNK // 16):
        some = tiles[start : start + _CHUNK // 16].astype(np.float64)
        best[start : start + len(some)] = (some @ patterns.T.astype(np.float64)).argmax(axis=1)
    mask = np.ones(scores.shape, bool)
    kept = patterns[best].reshape(high, wide, 4, 4).transpose(0, 2, 1, 3)
    mask[: high * 4, : wide * 4] = kept.reshape(high * 4, wide * 4)
    return mask
