"""How many units of a group may stay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxprune.plan.counts import Counts, counts_for
from onnxprune.types import Axis, Group


def group(size: int, kind: str = "channels") -> Group:
    return Group("g", 0, size, Axis("w", 0), kind, (), (), 0, 0, True)


def counts(
    size: int, kind: str = "channels", round_to: int | None = 8, min_keep: int = 1, max_ratio: float | None = None
):
    return counts_for(group(size, kind), round_to=round_to, min_keep=min_keep, max_ratio=max_ratio)


@pytest.mark.parametrize(
    ("size", "wanted", "kept"),
    [
        (64, 32, 32),
        (64, 44.8, 48),  # nearer to 48 than to 40
        (64, 43.9, 40),
        (64, 44, 48),  # of two equally near the larger
        (64, 0, 8),  # never to nothing
        (64, 64, 64),
        (100, 98, 100),  # whole, though 100 is no multiple of 8
        (100, 97.9, 96),
        (16, 1, 8),
        (15, 7.5, 8),  # too small to be rounded: the nearest whole number, the larger of two
        (15, 7.4, 7),
        (3, 1.5, 2),
        (2, 0.2, 1),
    ],
)
def test_the_nearest_allowed_number(size: int, wanted: float, kept: int) -> None:
    assert counts(size).nearest(wanted) == kept


def test_float_noise_does_not_move_a_half() -> None:
    assert counts(10, round_to=None).nearest(10 * (1 - 0.45)) == 6
    assert counts(10, round_to=None).nearest(5.499999999999999999) == 6
    assert counts(30, round_to=None).nearest(30 * (1 - 0.9)) == 3


@pytest.mark.parametrize("kind", ["heads", "experts"])
def test_heads_and_experts_are_not_rounded(kind: str) -> None:
    assert counts(32, kind).nearest(13) == 13


@pytest.mark.parametrize("kind", ["channels", "ffn", "head_dims", "width"])
def test_all_other_kinds_are(kind: str) -> None:
    assert counts(32, kind).nearest(13) == 16


def test_bounds_are_rounded_up() -> None:
    assert counts(64, min_keep=20).minimum == 24
    assert counts(64, max_ratio=0.5).minimum == 32
    assert counts(64, max_ratio=0.3).minimum == 48  # 44.8 must stay
    assert counts(10, max_ratio=0.3).minimum == 7
    assert counts(10, min_keep=99).minimum == 10
    assert counts(100, min_keep=97).minimum == 100
    assert counts(64, round_to=None, min_keep=5).nearest(0) == 5


@given(
    size=st.integers(2, 200),
    least=st.integers(1, 200),
    step=st.sampled_from([1, 2, 8, 16]),
    wanted=st.lists(st.floats(0, 200), min_size=2, max_size=2),
)
def test_more_wanted_is_never_fewer_kept(size: int, least: int, step: int, wanted: list[float]) -> None:
    allowed = Counts(size, min(least, size), step)
    fewer, more = (allowed.nearest(min(w, size)) for w in sorted(wanted))
    assert allowed.minimum <= fewer <= more <= size
    assert {fewer % step, more % step} <= {0, size % step}
    assert allowed.nearest(size) == size
