"""Made-up inputs to run a model on where the user gave no data: enough to see that it runs, no more."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import TensorProto, ValueInfoProto, helper

from onnxprune.errors import SettingError


def random_feeds(
    inputs: Mapping[str, ValueInfoProto], shapes: Mapping[str, tuple[int, ...]], seed: int = 0
) -> dict[str, np.ndarray]:
    """One input per graph input at the bound `shapes`.

    Floats are normal, masks and booleans all true, other integers 0 or 1: indices that every table has.
    """
    rng = np.random.default_rng(seed)
    feeds = {}
    for name, info in inputs.items():
        if name not in shapes:
            raise SettingError(f"the shape of input {name!r} is not known", remedy="give it with --input-shapes")
        kind, shape = info.type.tensor_type.elem_type, shapes[name]
        if kind == TensorProto.STRING:
            feeds[name] = np.full(shape, "a", object)
            continue
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind))
        if dtype.kind == "b" or "mask" in name.lower():
            feeds[name] = np.ones(shape, dtype)
        elif dtype.kind in "iu":
            feeds[name] = rng.integers(0, 2, shape).astype(dtype)
        else:
            feeds[name] = rng.normal(size=shape).astype(dtype)
    return feeds
