"""Common refinement of factorisations, and the runs of it that make up each factor."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxprune.coupling.refine import common_refinement, spans


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([(12, 64), (24, 32)], (12, 2, 32)),
        ([(3, 12, 64), (36, 64)], (3, 12, 64)),
        ([(2, 12), (12, 2)], (2, 6, 2)),
        ([(768,)], (768,)),
        ([(2, 3, 4), (24,), (6, 4)], (2, 3, 4)),
        ([(6, 4), (4, 6)], None),
        ([(4, 6), (6, 4), (2, 12)], None),
        ([(1,), (1, 1)], ()),
        ([(0, 3), (3, 0)], None),
        ([(2, 1, 3), (6,)], (2, 3)),
    ],
)
def test_common_refinement(shapes: list[tuple[int, ...]], expected: tuple[int, ...] | None) -> None:
    assert common_refinement(shapes) == expected


@pytest.mark.parametrize(
    ("shape", "sizes", "expected"),
    [
        ((12, 64), (12, 2, 32), [(0, 1), (1, 3)]),
        ((24, 32), (12, 2, 32), [(0, 2), (2, 3)]),
        ((768,), (12, 2, 32), [(0, 3)]),
        ((2, 1, 3), (2, 3), [(0, 1), (1, 1), (1, 2)]),
    ],
)
def test_spans(shape: tuple[int, ...], sizes: tuple[int, ...], expected: list[tuple[int, int]]) -> None:
    assert spans(shape, sizes) == expected


@st.composite
def regroupings(draw: st.DrawFn) -> tuple[list[int], list[list[int]]]:
    """Sizes, and shapes that are products of runs of them."""
    sizes = draw(st.lists(st.integers(2, 5), min_size=1, max_size=5))
    shapes = []
    for _ in range(draw(st.integers(1, 3))):
        cuts = sorted({0, len(sizes), *draw(st.lists(st.integers(0, len(sizes)), max_size=4))})
        shapes.append([prod(sizes[a:b]) for a, b in pairwise(cuts)])
    return sizes, shapes


@given(regroupings())
def test_what_has_a_refinement_gets_the_coarsest(case: tuple[list[int], list[list[int]]]) -> None:
    sizes, shapes = case
    found = common_refinement(shapes)
    assert found is not None
    assert prod(found) == prod(sizes)
    assert len(found) <= len(sizes)
    for shape in shapes:
        assert [prod(found[a:b]) for a, b in spans(shape, found)] == shape
    # coarsest: each cut is one that some shape makes
    cuts = {prod(shape[k:]) for shape in shapes for k in range(len(shape) + 1)}
    assert {prod(found[k:]) for k in range(len(found) + 1)} == cuts
