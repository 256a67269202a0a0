"""A trained module's weights back into the model that it was made of: stored tensors change, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from onnxprune.analyse import Source
from onnxprune.errors import ModelError
from onnxprune.graph.io import load
from onnxprune.graph.model import Model
from onnxprune.graph.tensors import content_of, set_array
from onnxprune.graph.view import GraphView
from onnxprune.recover.dtypes import to_array
from onnxprune.recover.module import OnnxModule, whole


def write_back(module: OnnxModule, model: Source, *, values: Mapping[str, Tensor] | None = None) -> Model:
    """A copy of `model` with the module's weights and running statistics in the place of those it was made of.

    An element that training did not change keeps its bits, so that without training the same bytes come out; float16
    and bfloat16 are rounded to, and integers behind DequantizeLinear requantised with their stored scale. External
    data stays where it is laid out. `values` replaces weights by name, for averages of them.

    Raises ModelError where the model has no tensor of a weight's name, type and shape: it is another model.
    """
    source = load(model)
    before = GraphView(source)
    changed = {key: array for key in module.originals if (array := _new(module, before, key, values)) is not None}
    main = [key for key in changed if source.initializer(key) is not None]
    edited = source.copy(without=main)
    after = GraphView(edited)
    for key, array in changed.items():
        if key in main:
            tensor = before.constants[key]
            edited.defer(key, list(tensor.dims), lambda array=array: array)  # type: ignore[misc]
        else:
            set_array(after.constants[key], array)
    return edited


def _new(module: OnnxModule, view: GraphView, key: str, values: Mapping[str, Tensor] | None) -> np.ndarray | None:
    """What is to be stored under a key; None where that is what is stored."""
    tensor, original = view.constants.get(key), module.originals[key]
    if tensor is None or tuple(tensor.dims) != tuple(original.shape):
        raise ModelError(
            f"{view.model.data.origin} has no tensor {key!r} of shape {list(original.shape)}",
            remedy="Write back into the model that the module was made of",
        )
    with torch.no_grad():
        value = values[key] if values is not None and key in values else module.places[key].get()
        value, old = value.detach().cpu(), original.cpu()
        same = value == old
        if bool(same.all()):
            return None
        weight = module.weights.get(key)
        if weight is not None and weight.is_quantised:
            value = whole(value, weight, {k: v.cpu() for k, v in module.stored_settings(weight).items()})
    stored = view.model.array(tensor)
    array = np.where(same.numpy(), stored, to_array(value, tensor.data_type)).astype(stored.dtype, copy=False)
    is_same = bytes(content_of(np.ascontiguousarray(array), tensor)) == b"".join(map(bytes, view.model.content(tensor)))
    return None if is_same else array
