"""Store statistics of weights at their dense values, once a unit is removed that they were computed of."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property

import numpy as np

from onnxprune.coupling.coupling import Site
from onnxprune.edit.prediction import Prediction
from onnxprune.edit.rearrange import rearrange
from onnxprune.graph.fixed import fixed_value, stored_origin
from onnxprune.graph.view import GraphView


class Settling:
    """Gives settled statistics (coupling/settled.py) as an edit must store them; `changed` are stored tensors."""

    def __init__(self, prediction: Prediction, changed: Collection[str]) -> None:
        self._prediction, self._changed = prediction, changed

    @cached_property
    def _arranged(self) -> GraphView:
        coupling, orders = self._prediction.coupling, self._prediction.orders
        return coupling.view if orders is None else GraphView(rearrange(coupling, orders), coupling.view)

    def value(self, site: Site) -> np.ndarray | None:
        """What the site's node gave in the dense model, of the indices that stay; None where it gives that anyhow."""
        y = site.node.y
        if stored_origin(self._prediction.coupling.view, y.name).isdisjoint(self._changed):
            return None
        found = fixed_value(self._arranged, y.name)
        return found[np.ix_(*[self._prediction.kept(y, axis) for axis in range(y.rank)])] if y.rank else found
