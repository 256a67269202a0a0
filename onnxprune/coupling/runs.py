"""Runs of equal and of different lengths in flat arrays.

`distinct` stands in for numpy's unique, which is several times slower on arrays that are sorted in parts (and imports
masked arrays on its first use).
"""

from __future__ import annotations

import numpy as np


def ragged(start: np.ndarray, width: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For runs start[i] .. start[i] + width[i] - 1: the number i of each element's run, and the element (int64)."""
    owner = np.repeat(np.arange(len(start)), width)
    return owner, np.repeat(start - (np.cumsum(width) - width), width) + np.arange(len(owner))


def begins(key: np.ndarray) -> np.ndarray:
    """Where runs of equal elements begin (int64)."""
    if not len(key):
        return np.empty(0, np.int64)
    change = np.empty(len(key), bool)
    change[0] = True
    np.not_equal(key[1:], key[:-1], out=change[1:])
    return np.flatnonzero(change)


def distinct(key: np.ndarray) -> np.ndarray:
    """The distinct elements, sorted."""
    ordered: np.ndarray = np.sort(key)
    return np.asarray(ordered[begins(ordered)])


def numbered(key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each element's number among the distinct ones in sorted order, and the first place of each number."""
    order = np.argsort(key, kind="stable")
    begin = begins(key[order])
    number = np.empty(len(key), np.int64)
    number[order] = np.repeat(np.arange(len(begin)), np.diff(np.append(begin, len(key))))
    return number, order[begin]
