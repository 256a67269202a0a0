"""Indices in the numbering that remains."""

from __future__ import annotations

import numpy as np

from onnxprune.coupling.renumber import renumber, resolve

KEPT = np.asarray([1, 2, 4])


def test_from_the_front_and_from_the_back() -> None:
    assert renumber(np.asarray([[4, 1], [2, 2]]), KEPT, 6).tolist() == [[2, 0], [1, 1]]
    assert renumber(np.asarray([-2, -5]), KEPT, 6).tolist() == [-1, -3]
    assert renumber(np.asarray(-4), KEPT, 6).tolist() == -2


def test_an_index_that_is_gone() -> None:
    assert renumber(np.asarray([1, 3]), KEPT, 6) is None
    assert renumber(np.asarray([5]), KEPT, 6) is None


def test_indices_outside_the_axis() -> None:
    assert resolve(np.asarray([0, 6]), 6) is None
    assert resolve(np.asarray([-7]), 6) is None
    assert resolve(np.asarray([-6, 5]), 6).tolist() == [0, 5]
