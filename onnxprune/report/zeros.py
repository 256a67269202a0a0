"""Where a model's weights are zero."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from onnxprune.graph.model import Model

BINS = 32
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
_LEAST = 0.05  # share of a weight's zeros from which on it counts as sparse


@dataclass(frozen=True)
class Zeros:
    """One weight: the share of it that is zero, and that of each of up to 32 equal parts along its first axis."""

    name: str
    shape: tuple[int, ...]
    share: float
    parts: tuple[float, ...]


def zeros_of(model: Model) -> list[Zeros]:
    """The weights (floats of at least two axes) of the main graph, in its order; none where no weight is sparse."""
    found = []
    for tensor in model.proto.graph.initializer:
        if tensor.data_type not in _FLOATS or len(tensor.dims) < 2 or 0 in tensor.dims:
            continue
        is_zero = np.asarray(model.array(tensor) == 0)
        rows = is_zero.reshape(len(is_zero), -1).mean(axis=1)
        parts = np.array_split(rows, min(BINS, len(rows)))
        found.append(
            Zeros(
                tensor.name, tuple(tensor.dims), float(is_zero.mean()), tuple(round(float(p.mean()), 4) for p in parts)
            )
        )
    return found if any(item.share >= _LEAST for item in found) else []
