"""Give stored tensors other values."""

from __future__ import annotations

import numpy as np

from onnxprune.graph.tensors import set_array
from onnxprune.graph.view import GraphView


def put(view: GraphView, name: str, array: np.ndarray) -> None:
    """Give a stored tensor of a model that is ours to change another value of the same shape and type."""
    if name in view.main.initializers:
        view.model.defer(name, list(array.shape), lambda: array)
    else:
        set_array(view.constants[name], array)
