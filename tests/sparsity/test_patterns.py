"""How patterns are spelled, and which cannot be."""

from __future__ import annotations

import pytest

from onnxprune.errors import SettingError
from onnxprune.sparsity.patterns import check_share, parse_pattern


@pytest.mark.parametrize("text", ["2:4", "1:4", "4:8", "block:1x4", "block:16x16", "unstructured"])
def test_a_pattern_is_spelled_as_it_is_read(text: str) -> None:
    assert str(parse_pattern(text)) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [("5:4", "zeroes nothing"), ("4:4", "zeroes nothing"), ("0:4", "zeroes everything"), ("1:1000", "too large"),
     ("block:0x4", "at least one"), ("2/4", "unknown"), ("", "unknown"), ("block:4", "unknown")],
)  # fmt: skip
def test_what_cannot_be(text: str, why: str) -> None:
    with pytest.raises(SettingError, match=why):
        parse_pattern(text)


@pytest.mark.parametrize(
    ("share", "pattern", "why"),
    [(1.0, "unstructured", "leaves no weight"), (1.5, "unstructured", "leaves no weight"),
     (0.0, "block:1x4", "is no share"), (float("nan"), "unstructured", "is no share"),
     (None, "unstructured", "needs a share"), (0.5, "2:4", "its own share")],
)  # fmt: skip
def test_shares_that_cannot_be(share: float | None, pattern: str, why: str) -> None:
    with pytest.raises(SettingError, match=why):
        check_share(share, parse_pattern(pattern))


def test_the_share_of_a_pattern() -> None:
    assert check_share(None, parse_pattern("1:4")) == 0.75
    assert check_share(0.9, parse_pattern("unstructured")) == 0.9
