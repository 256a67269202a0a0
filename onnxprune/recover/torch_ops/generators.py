"""Values that are made, not computed from others."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor

from onnxprune.recover.dtypes import to_tensor
from onnxprune.recover.registry import op
from onnxprune.recover.step import Step, floats, ints

_NUMBERS = {
    "value_int": torch.int64, "value_ints": torch.int64, "value_float": torch.float32, "value_floats": torch.float32,
}  # fmt: skip


@op("Constant")
def constant(step: Step) -> Any:
    """Numbers that are attributes; a stored tensor never comes here, since the module holds it."""
    for name, dtype in _NUMBERS.items():
        if name in step.attrs:
            return torch.tensor(step.attrs[name], dtype=dtype)
    raise step.refusal("it holds no numbers")


@op("ConstantOfShape", settings=(0,))
def constant_of_shape(step: Step, shape: Tensor) -> Tensor:
    stored = step.attr("value")
    if stored is None:
        return torch.zeros(ints(shape), dtype=torch.float32)
    value = to_tensor(_array(stored))
    return torch.full(ints(shape), value.reshape(-1)[0].item(), dtype=step.dtype(stored.data_type))


def _array(stored: TensorProto) -> np.ndarray:
    from onnx import numpy_helper

    return np.asarray(numpy_helper.to_array(stored))


@op("Range", settings=(0, 1, 2))
def arange(step: Step, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    """By count, as ONNX defines it: torch's own may give one more where floats are rounded."""
    first, last, by = (v.item() for v in (start, limit, delta))
    count = max(math.ceil((last - first) / by), 0)
    steps = torch.arange(count, dtype=torch.float64 if start.is_floating_point() else torch.int64)
    return (steps * by + first).to(start.dtype)


@op("EyeLike")
def eye_like(step: Step, x: Tensor) -> Tensor:
    dtype = step.dtype(step.attrs["dtype"]) if "dtype" in step.attrs else x.dtype
    rows, columns = x.shape
    offset = step.attr("k", 0)
    i, j = torch.arange(rows, device=x.device), torch.arange(columns, device=x.device)
    return (j.unsqueeze(0) - i.unsqueeze(1) == offset).to(dtype)


_WINDOWS = {  # a - b cos + c cos of twice the angle
    "HannWindow": (0.5, 0.5, 0.0),
    "HammingWindow": (25 / 46, 21 / 46, 0.0),
    "BlackmanWindow": (0.42, 0.5, 0.08),
}


@op(*_WINDOWS, settings=(0,))
def window(step: Step, size: Tensor) -> Tensor:
    (count,) = ints(size)
    period = count if step.attr("periodic", 1) else count - 1
    angle = torch.arange(count, dtype=torch.float64) * (2 * math.pi / period)
    a, b, c = _WINDOWS[step.op]
    return (a - b * torch.cos(angle) + c * torch.cos(2 * angle)).to(step.dtype(step.attr("output_datatype", 1)))


@op("MelWeightMatrix", settings=(0, 1, 2, 3, 4))
def mel_weights(step: Step, bins: Tensor, size: Tensor, rate: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Triangles evenly spaced in mel [size/2 + 1, bins], as ONNX's specification spells them."""
    count, length, sampled = ints(bins)[0], ints(size)[0], ints(rate)[0]
    lowest, highest = (2595 * math.log10(1 + floats(edge)[0] / 700) for edge in (low, high))
    mel = np.arange(count + 2) * ((highest - lowest) / (count + 2)) + lowest
    edges = ((length + 1) * (700 * (10 ** (mel / 2595) - 1)) // sampled).astype(np.int64)
    found = np.zeros((length // 2 + 1, count))
    for k in range(count):
        left, middle, right = edges[k : k + 3]
        if middle == left:
            found[middle, k] = 1
        else:
            found[left : middle + 1, k] = (np.arange(left, middle + 1) - left) / (middle - left)
        if right != middle:
            found[middle:right, k] = (right - np.arange(middle, right)) / (right - middle)
    return torch.from_numpy(found).to(step.dtype(step.attr("output_datatype", 1)))
