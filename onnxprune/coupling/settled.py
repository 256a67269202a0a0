"""Statistics of what is stored: a mean over a weight is the same number for whatever the model is fed.

Weight standardisation (NFNet), weight normalisation and learned mixtures are spelled so: the weights of a convolution
are computed in the graph. Removing an input of the convolution must not change the mean that was taken over it; the
statistic stays what it is in the dense model, and is stored in place of the nodes that computed it once something
that it was computed of is removed. So the units over which it runs are exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxprune.coupling.atoms import Atoms, Ids
from onnxprune.coupling.blocks import Axes
from onnxprune.coupling.components import components
from onnxprune.coupling.coupling import Site
from onnxprune.coupling.runs import distinct
from onnxprune.graph.view import GraphView
from onnxprune.types import Refusal

WHY = "a statistic is all that is taken of it, and stays as it is"


def freeze_orphans(
    atoms: Atoms, sites: Sequence[Site], reduced: Sequence[Ids], view: GraphView
) -> list[tuple[Ids, int]]:
    """Links (as Links.frozen) that freeze the axes under `reduced` (over which settled statistics run) that no data
    meets: exporters store a weight once more, transposed, to take its mean. Removing indices there would do nothing.
    """
    axes = Axes(atoms)
    pairs: list[np.ndarray] = []
    for site in sites:
        pairs += [np.asarray(pair, np.int64).reshape(1, 2) for pair in site.recorded.wholes]
        for a, b in site.recorded.edges:
            pairs.append(np.stack([axes.of(a), axes.of(b)], axis=1))
        for factor in site.recorded.factors:
            flat = distinct(axes.of(factor.flat))
            pairs += [np.stack(np.broadcast_arrays(flat[:1], distinct(axes.of(p))), axis=1) for p in factor.parts]
    joined = np.concatenate(pairs) if pairs else np.empty((0, 2), np.int64)
    joined = joined[(joined >= 0).all(axis=1)]
    label = components(len(axes.size), joined[:, 0], joined[:, 1])
    live = {int(label[i]) for i, slot in enumerate(atoms.slots) if slot.tensor not in view.fixed}
    found: list[tuple[Ids, int]] = []
    for ids in reduced:
        for axis in distinct(axes.of(ids)).tolist():
            if axis >= 0 and int(label[axis]) not in live:
                for slot in (i for i in range(len(atoms.slots)) if label[i] == label[axis]):
                    at = atoms.slots[slot]
                    reason = atoms.reason(Refusal(at.tensor, "statistic", at.tensor, at.axis, WHY))
                    found.append((np.arange(at.start, at.start + at.size), reason))
                live.add(int(label[axis]))
    return found
