"""Criteria that look at the loss's gradient, which recover/gradients.py computes and hands over as plain data."""

from __future__ import annotations

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.errors import SettingError
from onnxprune.importance.magnitude import reads_weight
from onnxprune.importance.registry import Context, criterion
from onnxprune.importance.tally import Tally
from onnxprune.importance.traits import Unscored, traits
from onnxprune.runtime.gradients import BY_AXIS, Gradients

GRADIENTS = "gradients"
"""Where `Context.data` has them, and what the criteria need."""

_NO_GRADIENT = "no weight of its units has a gradient"


@criterion("taylor")
@traits(needs=(GRADIENTS,), normalise="none")
def taylor(coupling: Coupling, context: Context) -> list[np.ndarray | Unscored]:
    """The square of what the loss would change without a unit's weights, to first order, over batches.

    Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, arXiv:1906.10771, equation 8, taken
    at every tensor that the unit has a part of.
    """
    return _tallied(coupling, context, _of(context, "taylor").taylor)


@criterion("fisher")
@traits(needs=(GRADIENTS,), normalise="none")
def fisher(coupling: Coupling, context: Context) -> list[np.ndarray | Unscored]:
    """Each weight's square times its mean squared gradient, the diagonal of the empirical Fisher matrix, over a unit.

    Theis et al., "Faster gaze prediction with dense networks and Fisher pruning", 2018, arXiv:1801.05787; Liu et al.,
    "Group Fisher Pruning", ICML 2021, arXiv:2108.00708, sum over what is coupled.
    """
    return _tallied(coupling, context, _of(context, "fisher").fisher)


def _of(context: Context, name: str) -> Gradients:
    found = context.data.get(GRADIENTS)
    if not isinstance(found, Gradients):
        raise SettingError(
            f"the criterion {name!r} needs gradients",
            remedy="give data with --data, or in Python score(…, data={'gradients': gradients_of(…)})",
        )
    return found


def _tallied(coupling: Coupling, context: Context, values: BY_AXIS) -> list[np.ndarray | Unscored]:
    tally = Tally(coupling, context.aggregate)
    for name, by_axis in coupling.tensor_slots.items():
        for axis, slots in by_axis.items():
            here = values.get(name, {}).get(axis)
            if here is None:
                continue
            for index in slots:
                if reads_weight(coupling, index):
                    slot = coupling.atoms.slots[index]
                    tally.add(coupling.solution.label[slot.start : slot.start + slot.size], here)
    return tally.by_group(_NO_GRADIENT)
