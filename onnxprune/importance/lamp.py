"""Layer-adaptive magnitude: how much of its group's magnitude a unit is, once all smaller ones are gone."""

from __future__ import annotations

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.importance.magnitude import totals
from onnxprune.importance.registry import Context, criterion
from onnxprune.importance.traits import traits


@criterion("lamp")
@traits(normalise="none")
def lamp(coupling: Coupling, context: Context) -> list[np.ndarray]:
    """The square of a unit's L2 norm by the sum of the squares of all units of its group that are as large or larger.

    Lee et al., "Layer-adaptive Sparsity for the Magnitude-based Pruning", ICLR 2021, arXiv:2010.07611, for units
    instead of weights. Within a group the order is that of `l2`; between groups one scale, from 1 for the largest
    unit down, which is why the scores are not normalised.
    """
    return [_lamp(squares) for squares in totals(coupling, context.aggregate, 2)]


def _lamp(squares: np.ndarray) -> np.ndarray:
    """Each square by the sum of itself and all that come after it in rising order, the earlier of equal ones first."""
    order = np.argsort(squares, kind="stable")
    rising = squares[order]
    remaining = np.cumsum(rising[::-1])[::-1]
    found = np.empty_like(squares)
    found[order] = np.divide(rising, remaining, out=np.zeros_like(rising), where=remaining > 0)
    return found
