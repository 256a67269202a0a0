"""Give stored tensors other values: in a model that was cut, and at the kept places of the one it was cut from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.edit.stored import Kept
from onnxprune.graph.model import Model
from onnxprune.graph.tensors import set_array
from onnxprune.graph.view import GraphView


def with_weights(coupling: Coupling, model: Model) -> Coupling:
    """The coupling of `model`, the coupling's own model but for the values of weights."""
    return replace(coupling, view=GraphView(model, coupling.view))


def put(view: GraphView, name: str, array: np.ndarray) -> None:
    """Give a stored tensor of a model that is ours to change another value of the same shape."""
    if name in view.main.initializers:
        view.model.defer(name, list(array.shape), lambda: array)
    else:
        set_array(view.constants[name], array)


def put_back(view: GraphView, name: str, array: np.ndarray, kept: Kept) -> None:
    """Put a cut tensor's values into the whole one of `view`, at the indices that are kept of each axis."""
    whole = np.array(view.model.array(view.constants[name]))
    places = [np.asarray(kept[a]) if a in kept else np.arange(n) for a, n in enumerate(whole.shape)]
    whole[np.ix_(*places)] = array
    put(view, name, whole)
