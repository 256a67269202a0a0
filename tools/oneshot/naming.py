"""Arrays under other names and shapes than the model's inputs, as data sets come, made into what onnxprune reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from onnxprune.graph.view import GraphView
from onnxprune.runtime.inputs import input_specs


def read_names(text: str | None) -> dict[str, str]:
    """`"x=image,y=labels"` -> `{"x": "image", "y": "labels"}`."""
    pairs = (part.partition("=") for part in (text or "").split(",") if part)
    return {mine.strip(): theirs.strip() for mine, _, theirs in pairs}


def named(path: Path, view: GraphView, names: Mapping[str, str], target: Path) -> Path:
    """A .npz at `target` with the arrays of `path` that `names` maps to inputs and `labels`; `path` without names.

    Arrays get the input's type and, where their rank differs, its shape.
    """
    if not names:
        return path
    specs = input_specs(view)
    arrays: dict[str, np.ndarray] = {}
    with np.load(path, allow_pickle=False) as file:
        for mine, theirs in names.items():
            array = file[mine]
            if theirs in specs:
                spec = specs[theirs]
                array = array.astype(spec.dtype)
                if array.ndim != len(spec.dims):
                    array = array.reshape(len(array), *(d if isinstance(d, int) else -1 for d in spec.dims[1:]))
            arrays[theirs] = array
    np.savez(target, **arrays)
    return target
