"""Regrouping follows factors through reshapes and transposes, checked against numpy doing the same."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxprune.coupling.regrouping import Regrouping


def test_a_shuffle_is_a_permutation_of_one_axis() -> None:
    moved = Regrouping((2, 6, 5))
    assert moved.reshape((2, 2, 3, 5))
    moved.transpose((0, 2, 1, 3))
    assert moved.reshape((2, 6, 5))
    assert moved.origin() == [0, 1, 2]
    assert moved.order(1, 1).tolist() == [0, 3, 1, 4, 2, 5]
    assert moved.order(2, 2).tolist() == [0, 1, 2, 3, 4]


def test_axes_of_length_one_come_and_go() -> None:
    moved = Regrouping((1, 4, 3))
    assert moved.reshape((4, 1, 3, 1))
    moved.transpose((2, 1, 0, 3))
    assert moved.reshape((1, 3, 4))
    assert moved.origin() == [0, 2, 1]


def test_axes_that_are_mixed_have_no_origin() -> None:
    moved = Regrouping((4, 4))
    assert moved.reshape((2, 2, 4))
    moved.transpose((0, 2, 1))
    assert moved.reshape((8, 2))
    assert moved.origin() is None


def test_a_factor_that_does_not_split_evenly_is_given_up() -> None:
    assert not Regrouping((4, 9)).reshape((6, 6))


def test_a_shape_of_another_size_is_given_up() -> None:
    assert not Regrouping((4, 3)).reshape((4,))
    assert not Regrouping((4,)).reshape((4, 3))


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_any_chain_that_ends_in_the_shape_it_began_with(data: st.DataObject) -> None:
    """Split every axis into two, permute, and regroup into the first shape: where axes are found, so is their order."""
    halves = data.draw(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=3))
    shape = tuple(a * b for a, b in halves)
    split = tuple(n for pair in halves for n in pair)
    perm = data.draw(st.permutations(range(len(split))))
    moved = Regrouping(shape)
    assert moved.reshape(split)
    moved.transpose(perm)
    x = np.arange(int(np.prod(shape))).reshape(shape)
    if not moved.reshape(shape) or (origin := moved.origin()) is None:
        return
    y = x.reshape(split).transpose(perm).reshape(shape)
    expected = x.transpose(origin)
    for now, then in enumerate(origin):
        expected = expected.take(moved.order(now, then), axis=now)
    assert np.array_equal(y, expected)
