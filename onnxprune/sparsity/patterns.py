"""The patterns that zeros may come in, and how they are spelled."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from onnxprune.errors import SettingError

_NM = re.compile(r"(\d+):(\d+)")
_BLOCK = re.compile(r"block:(\d+)x(\d+)")
LARGEST_GROUP = 64


@dataclass(frozen=True)
class Pattern:
    """`nm`: at most `n` of `m` elements in a row along the axis that is summed over are not zero.

    `block`: whole blocks of `rows` outputs times `columns` inputs are zero or not; `unstructured`: single elements.
    """

    kind: Literal["nm", "block", "unstructured"]
    n: int = 0
    m: int = 1
    rows: int = 1
    columns: int = 1

    def __str__(self) -> str:
        if self.kind == "nm":
            return f"{self.n}:{self.m}"
        return f"block:{self.rows}x{self.columns}" if self.kind == "block" else "unstructured"

    @property
    def needs_share(self) -> bool:
        """Whether the share of zeros is not given by the pattern itself."""
        return self.kind != "nm"


def parse_pattern(text: str) -> Pattern:
    """`2:4`, `block:1x4` or `unstructured`. Raises SettingError for another text and for what cannot be."""
    given = text.strip().lower()
    if given == "unstructured":
        return Pattern("unstructured")
    if match := _NM.fullmatch(given):
        n, m = int(match[1]), int(match[2])
        if not 0 < n < m or m > LARGEST_GROUP:
            why = "zeroes everything" if n == 0 else "zeroes nothing" if n >= m else "has groups that are too large"
            raise SettingError(
                f"--pattern {text}: N:M keeps N of M weights, and {text} {why}",
                remedy=f"give 0 < N < M of at most {LARGEST_GROUP}, such as 2:4",
            )
        return Pattern("nm", n, m)
    if match := _BLOCK.fullmatch(given):
        rows, columns = int(match[1]), int(match[2])
        if not rows or not columns:
            raise SettingError(f"--pattern {text}: a block has at least one element", remedy="such as block:1x4")
        return Pattern("block", rows=rows, columns=columns)
    raise SettingError(f"--pattern {text}: unknown", remedy="give N:M such as 2:4, block:1x4 or unstructured")


def check_share(share: float | None, pattern: Pattern, option: str = "--sparsity") -> float:
    """The share of zeros that is asked for. Raises SettingError where it cannot be, or the pattern has its own."""
    if not pattern.needs_share:
        if share is not None:
            raise SettingError(f"{option}: {pattern} has its own share of zeros", remedy="leave it out")
        return 1 - pattern.n / pattern.m
    if share is None:
        raise SettingError(f"--pattern {pattern} needs a share of zeros", remedy=f"give {option} 0.9")
    if not 0 < share < 1:
        what = "leaves no weight" if share >= 1 else "is no share"
        raise SettingError(f"{option} {share:g} {what}", remedy="give more than 0 and less than 1")
    return share
