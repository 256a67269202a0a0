"""Row-major factorisations of one axis and their common refinement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise


def common_refinement(shapes: Iterable[Sequence[int]]) -> tuple[int, ...] | None:
    """The coarsest factor sizes of which every shape's sizes are products of runs; None where there are none.

    Each shape cuts the flat axis at its suffix products; the refinement cuts at all of them, which works if the cuts
    form a chain of divisors: 12x64 and 24x32 give 12x2x32, 6x4 and 4x6 give nothing. Empty axes have none.
    """
    cuts = {1}
    for shape in shapes:
        product = 1
        for size in reversed(shape):
            product *= size
            cuts.add(product)
    if 0 in cuts:
        return None
    chain = sorted(cuts)
    if any(high % low for low, high in pairwise(chain)):
        return None
    return tuple(high // low for low, high in reversed(list(pairwise(chain))))


def spans(shape: Sequence[int], sizes: Sequence[int]) -> list[tuple[int, int]]:
    """For each size in `shape` the run [start, end) of refined `sizes` whose product it is."""
    runs, at = [], 0
    for size in shape:
        end, product = at, 1
        while product < size:
            product *= sizes[end]
            end += 1
        runs.append((at, end))
        at = end
    return runs
