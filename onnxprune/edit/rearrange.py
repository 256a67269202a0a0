"""The dense model with its stored tensors in another order."""

from __future__ import annotations

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.coupling.orders import Orders
from onnxprune.edit.prediction import Prediction
from onnxprune.edit.stored import kept_by_use, kept_in_place, slice_stored
from onnxprune.graph.model import Model
from onnxprune.graph.view import GraphView


def rearrange(coupling: Coupling, orders: Orders) -> Model:
    """The dense model with its stored tensors brought into the order `orders`. It computes the same, up to rounding."""
    prediction = Prediction(coupling, np.zeros(coupling.solution.classes, bool), orders)
    changed = kept_by_use(prediction)
    in_place = kept_in_place(prediction, changed)
    model = coupling.view.model.copy()
    slice_stored(GraphView(model, coupling.view, changed), prediction, changed, in_place)
    return model
