"""Budgets as people write them: `50%`, `0.5`, `1.2G`, `800M`, `1200000`."""

from __future__ import annotations

import math
import re

from onnxprune.errors import SettingError

_SUFFIX = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12}
_FORM = re.compile(r"(?P<number>\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+)\s*(?P<unit>[%KMGBT]?)", re.IGNORECASE)


def parse_amount(text: str, option: str) -> float | int:
    """A share to keep (a float above 0, at most 1) or an amount (an int of at least 1), as `Budget` has them.

    A percentage is a share, and so is a bare number of at most 1; with a suffix (K, M, G or B, T: powers of 1000), or
    above 1, it is an amount. Raises SettingError, which names `option`, for anything else.
    """
    match = _FORM.fullmatch(text.strip())
    remedy = "give a share to keep such as 50% or 0.5, or an amount such as 1.2G or 800M"
    if match is None:
        raise SettingError(f"{option} {text!r} is no amount", remedy=remedy)
    number, unit = float(match["number"]), match["unit"].upper()
    if unit == "%" or (not unit and number <= 1):
        share = number / 100 if unit else number
        if not 0 < share <= 1:
            raise SettingError(f"{option} {text!r} is no share: it must be above 0 and at most 100%", remedy=remedy)
        return share
    amount = number * _SUFFIX[unit]
    if not math.isfinite(amount) or amount < 1 or (not unit and amount != int(amount)):
        raise SettingError(f"{option} {text!r} is neither a share to keep nor a whole amount", remedy=remedy)
    return round(amount)


def spell(amount: float) -> str:
    """An amount as a person would write it: 1.23G, 45.6M, 789."""
    for suffix in "TGMK":
        if amount >= _SUFFIX[suffix]:
            return f"{amount / _SUFFIX[suffix]:.3g}{suffix}"
    return f"{amount:.0f}"
