"""Masks of operands carried back to what is stored, and stored tensors with zeros in them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from onnxprune.graph.model import Model
from onnxprune.graph.view import GraphView
from onnxprune.sparsity.operands import Leaf, Operand
from onnxprune.sparsity.weights import Use


def magnitudes(array: np.ndarray, leaf: Leaf) -> np.ndarray:
    """How far each stored number is from what stands for 0, in float32 where the type is narrower."""
    if leaf.zero is None and array.dtype in (np.float32, np.float64, np.float16):
        return np.asarray(np.abs(array))
    wide = array.astype(np.float32)
    return np.asarray(np.abs(wide if leaf.zero is None else wide - leaf.zero))


def nonzero(array: np.ndarray, leaf: Leaf) -> np.ndarray:
    """Which stored numbers do not stand for 0 (bool); a negative zero does."""
    if leaf.zero is not None:
        return np.asarray(array.astype(np.float32) != leaf.zero)
    return np.asarray(array.astype(np.float32) != 0) if array.dtype.kind not in "fiu" else np.asarray(array != 0)


def with_zeros(array: np.ndarray, mask: np.ndarray, leaf: Leaf) -> np.ndarray:
    """A copy with what stands for 0 wherever the mask is False."""
    found = array.copy()
    zero = np.zeros((), array.dtype) if leaf.zero is None else leaf.zero.astype(array.dtype)
    np.copyto(found, zero, where=~mask)
    return found


def arrays_of(model: Model, view: GraphView, operand: Operand) -> list[np.ndarray]:
    """The stored arrays of an operand's leaves."""
    return [model.array(view.constants[leaf.name]) for leaf in operand.leaves]


def arranged(use: Use, parts: list[np.ndarray]) -> np.ndarray:
    """Arrays of the leaves as the use has them, in sheets [outer, K, inner]."""
    return use.sheets(use.operand.arrange(parts))


def to_leaves(use: Use, mask: np.ndarray) -> dict[str, np.ndarray]:
    """A mask in sheets [outer, K, inner], as one of each stored tensor's shape; what is not read stays (True)."""
    operand = use.operand
    if not operand.is_moved:
        (leaf,) = operand.leaves
        return {leaf.name: mask.reshape(leaf.dims)}
    sizes = [math.prod(leaf.dims) for leaf in operand.leaves]
    flat = np.ones(sum(sizes), bool)
    flat[use.sheets(operand.positions())[~mask]] = False
    found: dict[str, np.ndarray] = {}
    start = 0
    for leaf, size in zip(operand.leaves, sizes, strict=True):
        mine = flat[start : start + size].reshape(leaf.dims)
        found[leaf.name] = found[leaf.name] & mine if leaf.name in found else mine
        start += size
    return found


def put_operand(use: Use, values: np.ndarray, stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The stored tensors after new `values` of the operand; what it does not read stays."""
    if not use.operand.is_moved:
        (leaf,) = use.operand.leaves
        return {leaf.name: values.reshape(leaf.dims).astype(stored[leaf.name].dtype)}
    flat = np.concatenate([stored[leaf.name].reshape(-1) for leaf in use.operand.leaves])
    flat[use.operand.positions()] = values
    found, start = {}, 0
    for leaf in use.operand.leaves:
        size = math.prod(leaf.dims)
        found[leaf.name] = flat[start : start + size].reshape(leaf.dims)
        start += size
    return found
