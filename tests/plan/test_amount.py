"""Budgets as people write them."""

from __future__ import annotations

import pytest

from onnxprune.errors import SettingError
from onnxprune.plan import parse_amount, spell


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50%", 0.5),
        ("12.5 %", 0.125),
        ("100%", 1.0),
        ("0.5", 0.5),
        (".25", 0.25),
        ("1", 1.0),
        ("1.0", 1.0),
        ("2", 2),
        ("1.2G", 1_200_000_000),
        ("1.2g", 1_200_000_000),
        ("800M", 800_000_000),
        (" 3k ", 3_000),
        ("7B", 7_000_000_000),
        ("0.5M", 500_000),
        ("2T", 2_000_000_000_000),
        ("1e9", 1_000_000_000),
        ("123456", 123_456),
    ],
)
def test_shares_are_floats_and_amounts_are_whole(text: str, expected: float | int) -> None:
    found = parse_amount(text, "--max-macs")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "half",
        "50 percent",
        "-1",
        "-50%",
        "0",
        "0%",
        "101%",
        "1.5",
        "1.2X",
        "0.0001K",
        "nan",
        "inf",
        "1e999",
        "1,5G",
    ],
)
def test_anything_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(SettingError, match="--max-macs") as caught:
        parse_amount(text, "--max-macs")
    assert "50%" in str(caught.value)


@pytest.mark.parametrize(
    ("amount", "expected"), [(0, "0"), (999, "999"), (1000, "1K"), (4_089_184_256, "4.09G"), (86_567_657, "86.6M")]
)
def test_amounts_are_spelled_in_three_digits(amount: float, expected: str) -> None:
    assert spell(amount) == expected
