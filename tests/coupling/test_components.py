"""Components against a naive union-find, and shapes that are slow for careless ones."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from onnxprune.coupling.components import components


def naive(count: int, edges: list[tuple[int, int]]) -> list[int]:
    """Compact component numbers in the order of the smallest vertices."""
    leader = list(range(count))

    def find(v: int) -> int:
        while leader[v] != v:
            v = leader[v]
        return v

    for a, b in edges:
        one, two = find(a), find(b)
        leader[max(one, two)] = min(one, two)
    roots = sorted({find(v) for v in range(count)})
    return [roots.index(find(v)) for v in range(count)]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    count = draw(st.integers(1, 30))
    vertex = st.integers(0, count - 1)
    return count, draw(st.lists(st.tuples(vertex, vertex), max_size=40))


@given(graphs())
def test_agrees_with_union_find(graph: tuple[int, list[tuple[int, int]]]) -> None:
    count, edges = graph
    a, b = (np.asarray([e[k] for e in edges], np.int64) for k in (0, 1))
    assert components(count, a, b).tolist() == naive(count, edges)


def test_no_edges() -> None:
    assert components(3, np.empty(0, np.int64), np.empty(0, np.int64)).tolist() == [0, 1, 2]
    assert components(0, np.empty(0, np.int64), np.empty(0, np.int64)).tolist() == []


def test_paths_and_stars_of_any_direction_take_few_rounds() -> None:
    """A star whose centre has the largest number once took one round per leaf: this would not end."""
    count = 200_000
    leaves, centre = np.arange(count - 1), np.full(count - 1, count - 1)
    shuffled = np.random.default_rng(0).permutation(count)
    for a, b in ((leaves, centre), (centre, leaves), (leaves, leaves + 1), (shuffled[:-1], shuffled[1:])):
        assert not components(count, a, b).any()
