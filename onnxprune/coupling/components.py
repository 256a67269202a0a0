"""Connected components of an undirected graph, in numpy."""

from __future__ import annotations

import numpy as np


def components(count: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Label each of `count` vertices (int64) with a compact component number 0..n-1; edges are pairs a[i], b[i].

    Components are numbered in the order of their smallest vertices. Min-label hooking with pointer jumping: O(log n)
    rounds, each a few vectorised passes over the edges that are still between two components.
    """
    parent = np.arange(count, dtype=np.int64)
    while len(a):
        a, b = _leaders(parent, a), _leaders(parent, b)
        live = np.flatnonzero(a != b)
        a, b = a[live], b[live]
        # A root hooks to its smallest neighbour: labels only fall, so there is no cycle, and a star is done in two.
        np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))
    own = parent == np.arange(count)
    hooked, roots = np.flatnonzero(~own), np.flatnonzero(own)
    parent[hooked] = _leaders(parent, hooked)
    number = np.empty(count, np.int64)
    number[roots] = np.arange(len(roots))
    return np.asarray(number[parent])


def _leaders(parent: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """The roots of the trees that `vertices` hang on, whose paths become short for those that come after."""
    at = parent[vertices]
    while True:
        above = parent[at]
        if np.array_equal(above, at):
            return np.asarray(at)
        parent[vertices] = above
        at = above
