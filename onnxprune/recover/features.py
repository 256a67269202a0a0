"""Intermediate values that a pruned model and its dense teacher have in common, and how to compare them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from onnxprune.coupling.coupling import Coupling
from onnxprune.edit.selection import removed_classes_of
from onnxprune.graph.view import GraphView
from onnxprune.recover.losses import relative_error
from onnxprune.types import Plan

_READERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "FusedConv", "FusedMatMul")


@dataclass(frozen=True)
class Feature:
    """A value by name, and which of the teacher's indices stayed of each axis that is shorter (none: all alike)."""

    name: str
    kept: Mapping[int, np.ndarray]

    def of_teacher(self, value: Tensor) -> Tensor:
        """The teacher's value at the indices that the pruned model has."""
        for axis, indices in self.kept.items():
            value = value.index_select(axis, torch.from_numpy(indices).to(value.device))
        return value


def features_of(student: GraphView, dense: Coupling | GraphView, plan: Plan | None, count: int) -> list[Feature]:
    """Up to `count` values, evenly over the graph's depth: what layers with weights read, in both models.

    With the dense model's coupling and the plan that was carried out the kept indices are known. Without a plan only
    values are taken that pruning left whole, which the caller has to know (shapes are compared when they are there).
    """
    theirs = dense.view if isinstance(dense, Coupling) else dense
    names = []
    for node in student.main.steps:
        if node.op in _READERS and node.inputs[0] in student.producer and node.inputs[0] in theirs.producer:
            name = node.inputs[0]
            if name not in names and name not in student.fixed:
                names.append(name)
    removed = removed_classes_of(dense, plan) if plan is not None and isinstance(dense, Coupling) else None
    found = []
    for name in names:
        kept: dict[int, np.ndarray] = {}
        if removed is not None and isinstance(dense, Coupling):
            shape = dense.shapes.shape.get(name)
            if shape is None:
                continue
            for axis, size in enumerate(shape):
                slot = dense.atoms.slot_at((name, -1, -1), axis)
                indices = None if slot is None else dense.kept_of_slot(slot, removed)
                if indices is not None and len(indices) != size:
                    kept[axis] = indices
        found.append(Feature(name, kept))
    if len(found) <= count:
        return found
    chosen = np.unique(np.linspace(0, len(found) - 1, count).round().astype(int))
    return [found[k] for k in chosen]


def feature_loss(features: list[Feature], mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> Tensor:
    """The mean relative error over features (Romero et al., "FitNets", ICLR 2015, arXiv:1412.6550, without adapters:
    kept indices say which of the teacher's values the pruned model's are).
    """
    terms = []
    for feature in features:
        target = feature.of_teacher(theirs[feature.name])
        if target.shape == mine[feature.name].shape:
            terms.append(relative_error(mine[feature.name], target))
    return torch.stack(terms).mean() if terms else torch.zeros(())
