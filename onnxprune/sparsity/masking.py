"""Zeros by magnitude, of any weight that is stored: no data, any layout, any element type, computed on saving."""

from __future__ import annotations

from functools import partial

import numpy as np

from onnxprune.edit.stored import put_stored
from onnxprune.graph.model import Model
from onnxprune.graph.view import GraphView
from onnxprune.sparsity.masks import block_sums, keep_blocks, keep_both_ways, keep_nm, keep_share
from onnxprune.sparsity.operands import Leaf
from onnxprune.sparsity.patterns import Pattern
from onnxprune.sparsity.stored import arranged, magnitudes, to_leaves, with_zeros
from onnxprune.sparsity.wanted import Target
from onnxprune.sparsity.weights import Use, Weight

TWO_OF_FOUR = Pattern("nm", 2, 4)


def put_masked(view: GraphView, source: Model, stored: GraphView, target: Target) -> str:
    """Zero a target's weight in `view`'s model, the arrays being those of `source` (indexed by `stored`).

    Gives why it cannot be, "" where it is done: uses along different axes, which no mask here serves.
    """
    weight = target.weight
    if len(weight.leaves) == 1 and len(weight.uses) == 1 and not weight.uses[0].operand.is_moved:
        (leaf,) = weight.leaves.values()
        put_stored(view, leaf.name, leaf.dims, partial(_masked, source, stored, leaf, target))
        return ""
    arrays = {name: source.array(stored.constants[name]) for name in weight.leaves}
    masks = masks_for(target, {n: magnitudes(arrays[n], leaf) for n, leaf in weight.leaves.items()})
    if isinstance(masks, str):
        return masks
    for name, mask in masks.items():
        leaf, array = weight.leaves[name], arrays[name]
        put_stored(view, name, leaf.dims, partial(with_zeros, array, mask, leaf))
    return ""


def _masked(source: Model, stored: GraphView, leaf: Leaf, target: Target) -> np.ndarray:
    array = source.array(stored.constants[leaf.name])
    (use,) = target.weight.uses
    mask = mask_of(use, target, use.operand.arrange([magnitudes(array, leaf)]))
    return with_zeros(array, mask.reshape(leaf.dims), leaf)


def mask_of(use: Use, target: Target, scores: np.ndarray) -> np.ndarray:
    """The mask of one use, in sheets [outer, K, inner], by scores of the operand's shape."""
    pattern = target.pattern
    if pattern.kind == "nm":
        return keep_nm(use.sheets(scores), pattern.n, pattern.m)
    if pattern.kind == "unstructured":
        return keep_share(use.sheets(scores), target.share)
    kept = keep_blocks(use.rows(scores), pattern.rows, pattern.columns, target.share)
    flat = np.empty(scores.size, bool)
    flat[use.rows(np.arange(scores.size).reshape(use.shape))] = kept
    return use.sheets(flat.reshape(use.shape))


def masks_for(target: Target, scores: dict[str, np.ndarray]) -> dict[str, np.ndarray] | str:
    """A mask per stored tensor that suits every use, or why there is none; `scores` have the shapes of the tensors."""
    weight, pattern = target.weight, target.pattern
    if pattern.kind == "unstructured" and len(weight.uses) > 1:
        return {name: keep_share(mine, target.share) for name, mine in scores.items()}
    found: list[dict[str, np.ndarray]] = []
    for use in weight.uses:
        mine = [scores[leaf.name] for leaf in use.operand.leaves]
        found.append(to_leaves(use, mask_of(use, target, use.operand.arrange(mine))))
    masks = {name: np.ones(leaf.dims, bool) for name, leaf in weight.leaves.items()}
    for part in found:
        for name, mask in part.items():
            masks[name] &= mask
    if pattern.kind != "nm" or len(weight.uses) == 1 or not _disagree(found, masks, weight):
        return masks
    axes = {axis_of(use, weight) for use in weight.uses}
    if pattern == TWO_OF_FOUR and axes == {0, 1}:
        (name,) = weight.leaves
        return {name: keep_both_ways(scores[name])}
    titles = " and ".join(use.title for use in weight.uses)
    return f"read along different axes by {titles}, which {pattern} cannot serve at once"


def _disagree(found: list[dict[str, np.ndarray]], masks: dict[str, np.ndarray], weight: Weight) -> bool:
    """Whether the uses' masks together zero what one of them, of what it reads, would keep."""
    for use, part in zip(weight.uses, found, strict=True):
        unread = to_leaves(use, np.zeros(use.sheets(np.empty(use.shape, bool)).shape, bool))
        if any((mask & ~unread[name] & ~masks[name]).any() for name, mask in part.items()):
            return True
    return False


def axis_of(use: Use, weight: Weight) -> int | None:
    """The axis of the one stored matrix along which a use's groups run; None where they follow none."""
    if len(weight.leaves) != 1 or len(use.operand.leaves) != 1:
        return None
    (leaf,) = use.operand.leaves
    sheets = use.sheets(use.operand.positions())
    if len(leaf.dims) != 2 or sheets.size != leaf.dims[0] * leaf.dims[1] or sheets.shape[1] < 2:
        return None
    steps = np.diff(sheets, axis=1)
    return next((a for a, step in enumerate((leaf.dims[1], 1)) if (steps == step).all()), None)


def follows(use: Use, pattern: Pattern, share: float, kept: list[np.ndarray]) -> tuple[bool, float]:
    """Whether the nonzeros of a use (bool, by leaf) follow the pattern, and the share of units that do.

    Units are the whole groups of N:M, the whole blocks, or elements; for the latter two that many must be zero.
    """
    if pattern.kind == "nm":
        sheets = arranged(use, kept)
        outer, length, inner = sheets.shape
        whole = length // pattern.m
        grouped = sheets[:, : whole * pattern.m].reshape(outer, whole, pattern.m, inner)
        fit = grouped.sum(axis=2) <= pattern.n
        return bool(fit.all()) and whole > 0, float(fit.mean()) if fit.size else 0.0
    operand = use.operand.arrange(kept)
    if pattern.kind == "block":
        zero = block_sums(use.rows(operand), pattern.rows, pattern.columns) == 0
    else:
        zero = ~operand
    found = float(zero.mean()) if zero.size else 0.0
    return bool(zero.size) and zero.sum() >= np.floor(share * zero.size), found
