"""Indices of a dense axis in the numbering that remains when some of its indices are gone."""

from __future__ import annotations

import numpy as np


def resolve(indices: np.ndarray, size: int) -> np.ndarray | None:
    """Indices of any shape as int64 counted from the front of an axis of `size`; None where one is outside it."""
    found = indices.astype(np.int64)
    found = np.where(found < 0, found + size, found)
    return found if ((found >= 0) & (found < size)).all() else None


def renumber(indices: np.ndarray, kept: np.ndarray, size: int) -> np.ndarray | None:
    """The places of `indices` (any shape, of an axis of `size`) among the sorted `kept` ones; None where one is gone.

    What counted from the back still does, so an index like -1 mostly stays as it is.
    """
    front = resolve(indices, size)
    if front is None:
        return None
    place = np.searchsorted(kept, front)
    if not np.array_equal(kept[np.minimum(place, len(kept) - 1)], front):
        return None
    return np.where(indices < 0, place - len(kept), place)
