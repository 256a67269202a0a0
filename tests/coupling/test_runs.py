"""Runs, against numpy's own and plain loops."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from onnxprune.coupling.runs import begins, distinct, numbered, ragged

KEYS = st.lists(st.integers(-3, 6), max_size=20).map(lambda keys: np.asarray(keys, np.int64))


def test_ragged() -> None:
    owner, element = ragged(np.asarray([5, 0, 9]), np.asarray([2, 0, 3]))
    assert owner.tolist() == [0, 0, 2, 2, 2]
    assert element.tolist() == [5, 6, 9, 10, 11]


def test_begins() -> None:
    assert begins(np.asarray([4, 4, 1, 4, 4, 4])).tolist() == [0, 2, 3]
    assert begins(np.asarray([], np.int64)).tolist() == []


@given(KEYS)
def test_distinct_is_unique(key: np.ndarray) -> None:
    assert distinct(key).tolist() == np.unique(key).tolist()


@given(KEYS)
def test_numbered_is_the_inverse_and_the_first_index(key: np.ndarray) -> None:
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    number, found = numbered(key)
    assert number.tolist() == inverse.tolist()
    assert found.tolist() == first.tolist()
