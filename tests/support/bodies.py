"""Graphs that nodes carry: bodies of If, Loop and Scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

FLOAT = onnx.TensorProto.FLOAT
Typed = tuple[int, Sequence[int | str | None] | None]


def weight(*shape: int, seed: int = 0) -> np.ndarray:
    """Seeded normal floats, none of them zero, no two seeds the same."""
    found = np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)
    return found + np.where(found >= 0, 0.05, -0.05).astype(np.float32)


def body(
    nodes: Sequence[onnx.NodeProto],
    outputs: Sequence[str],
    weights: Mapping[str, np.ndarray] | None = None,
    inputs: Mapping[str, Typed] | None = None,
    types: Mapping[str, int] | None = None,
) -> onnx.GraphProto:
    """A graph. `weights` become its initializers; inputs come with their type and shape, outputs (float32 unless
    `types` says otherwise) without a shape.
    """
    return helper.make_graph(
        list(nodes),
        "body",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in (inputs or {}).items()],
        [helper.make_tensor_value_info(name, (types or {}).get(name, FLOAT), None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array, order="C"), name) for name, array in (weights or {}).items()],
    )


def constant(name: str, array: np.ndarray) -> onnx.NodeProto:
    """A Constant node that holds `array`."""
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(array, order="C"), name))
