"""Groups of four and what 2:4 keeps of them, with what a change of one column would make of that."""

from __future__ import annotations

import numpy as np

GROUP = 4


def kept_by_2_4(columns: np.ndarray) -> float:
    """The sum of scores [columns, rows] that 2:4 keeps, groups running over columns; a tail that fills none counts."""
    whole = len(columns) // GROUP * GROUP
    first, second, _ = ranked(columns[:whole].reshape(-1, GROUP, columns.shape[1]))
    return float((first + second).sum(dtype=np.float64) + columns[whole:].sum(dtype=np.float64))


def ranked(members: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The largest, second and third of each row of groups [..., 4, rows], each [..., rows]."""
    one, two, three, four = (members[..., at, :] for at in range(GROUP))
    low, high = np.minimum(one, two), np.maximum(one, two)
    other_low, other_high = np.minimum(three, four), np.maximum(three, four)
    least_high, most_low = np.minimum(high, other_high), np.maximum(low, other_low)
    return np.maximum(high, other_high), np.maximum(least_high, most_low), np.minimum(least_high, most_low)


def terms(members: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of groups [..., 4, rows]: what each keeps; per column the sum of a [..., 4], and b [..., 4, rows].

    a is the largest and b the second largest of the group's other columns, per row: with scores w in a column's place
    the group keeps the sum over rows of a + max(b, w).
    """
    ones = np.ones(members.shape[-1], members.dtype)
    first, second, third = ranked(members)
    kept = (first + second) @ ones
    first, second, third = first[..., None, :], second[..., None, :], third[..., None, :]
    a = np.where(members >= first, second, first) @ ones
    b = np.where(members >= second, third, second)
    return kept, a, b
