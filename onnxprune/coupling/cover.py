"""Bunches of roots, and the axes that choices from several bunches could leave empty.

A planner leaves at least one root of every bunch. An axis that has all members of a bunch, or all combinations of the
members of several (12 heads of 64), then keeps an index whatever the choice. One that was cut out of such a product
(the first 100 of 768) might not: with the first head gone, and all dims but the last of the others.
"""

from __future__ import annotations

import numpy as np

from onnxprune.coupling.places import Places
from onnxprune.coupling.runs import begins, distinct, numbered

_SEED = 1729  # words of a hash; any seed will do, a fixed one makes results repeatable


def bunches(places: Places, root: np.ndarray, below: np.ndarray, classes: int) -> np.ndarray:
    """For each class the number of its bunch: roots that touch the same places share one. -1 for what is no root."""
    word = _words(places.number, 0)
    toucher, place = places.touched(root, below)
    signature = np.zeros(classes, np.uint64)
    np.add.at(signature, toucher, word[place])
    bunch = np.full(classes, -1, np.int64)
    roots = distinct(root)
    bunch[roots] = numbered(signature[roots])[0]
    return bunch


def uncovered(places: Places, root: np.ndarray, below: np.ndarray, bunch: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (place, one of its classes) for the places that could lose all atoms though every bunch keeps a root.

    A place is safe with an index that is frozen, or with one for every choice of a root each from certain bunches.
    """
    classes = len(bunch)
    roots = np.bincount(below, minlength=classes)
    shared = np.zeros(places.number, bool)  # only an axis with an index that several roots can take can be exposed
    shared[places.place[roots[places.cls] > 1]] = True
    open_pairs = np.flatnonzero((shared & ~places.still)[places.place])
    if not len(open_pairs):
        return []
    place, cls = places.place[open_pairs], places.cls[open_pairs]
    there = np.zeros(classes, bool)
    there[cls] = True
    root, below = root[there[below]], below[there[below]]

    size = np.bincount(bunch[bunch >= 0])
    combinations = np.ones(classes)
    np.multiply.at(combinations, below, size[bunch[root]].astype(float))
    # What goes with two roots of one bunch is gone whichever of them is kept: it saves no place.
    pairs = distinct(below * len(size) + bunch[root]) // len(size)
    combinations[np.bincount(pairs, minlength=classes) < roots] = np.inf
    kind, member = np.zeros(classes, np.uint64), np.zeros(classes, np.uint64)
    np.add.at(kind, below, _words(len(size), 1)[bunch[root]])
    np.add.at(member, below, _words(classes, 2)[root])

    kinds = numbered(kind[cls] + _words(places.number, 3)[place])[0]  # place and bunches
    first = numbered(member[cls] + _words(len(kinds), 4)[kinds])[1]
    found = np.bincount(kinds[first], minlength=len(kinds))
    safe = np.zeros(places.number, bool)
    safe[place[found[kinds] == combinations[cls]]] = True
    open_pairs = open_pairs[~safe[place]]
    place, cls = places.place[open_pairs], places.cls[open_pairs]
    order = np.lexsort((places.first[open_pairs], roots[cls], place))  # the index that the fewest roots depend on
    chosen = order[begins(place[order])]
    return list(zip(place[chosen].tolist(), cls[chosen].tolist(), strict=True))


def _words(count: int, salt: int) -> np.ndarray:
    """Random uint64 whose sums stand for sets; another `salt` gives others."""
    return np.random.default_rng((_SEED, salt)).integers(1, 2**63, count, dtype=np.uint64)
