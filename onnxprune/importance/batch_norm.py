"""The scale of BatchNormalization: what training itself turned down."""

from __future__ import annotations

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.errors import SettingError
from onnxprune.importance.registry import Context, criterion
from onnxprune.importance.tally import Tally
from onnxprune.importance.traits import Unscored
from onnxprune.importance.weights import weight

_SCALE = 1  # BatchNormalization's input


@criterion("bn_scale")
def bn_scale(coupling: Coupling, context: Context) -> list[np.ndarray | Unscored]:
    """The magnitude of the scale (gamma) of every BatchNormalization that a unit's channels go through.

    Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017, arXiv:1708.06519.

    Raises SettingError where the model has none: most exporters fold it into the convolution before it, whose filters
    then carry gamma / deviation, and cannot be told from it.
    """
    tally, found = Tally(coupling, context.aggregate), False
    for site in coupling.sites:
        node = site.node
        scale = node.optional(_SCALE) if node.op == "BatchNormalization" else None
        slot = None if scale is None else coupling.atoms.slot_at(scale.key, 0)
        if scale is None or slot is None:
            continue
        source = coupling.view.identity_source(scale.name)
        stored = weight(coupling.view, source) if source in coupling.view.constants else None
        if stored is not None and scale.rank == 1:
            gamma = np.concatenate([block for _, block in stored.blocks()])
            place = coupling.atoms.slots[slot]
            tally.add(coupling.solution.label[place.start : place.start + place.size], np.abs(gamma.astype(np.float64)))
            found = True
    if not found:
        raise SettingError(
            "the criterion 'bn_scale' needs BatchNormalization nodes with stored scales, and the model has none: "
            "they were folded into the weights when it was exported",
            remedy="use l1 or l2, which see the folded weights, or export without folding",
        )
    return tally.by_group("no BatchNormalization scales its units")
