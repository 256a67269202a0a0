"""Geometric median: a filter that others could replace lies near the middle of them."""

from __future__ import annotations

import numpy as np

from onnxprune.coupling.atoms import Operand
from onnxprune.coupling.coupling import Coupling
from onnxprune.coupling.nodeview import NodeView
from onnxprune.importance.magnitude import reads_weight
from onnxprune.importance.registry import Context, criterion
from onnxprune.importance.tally import Tally
from onnxprune.importance.traits import Unscored
from onnxprune.importance.weights import weight

_BLOCK = 1 << 22  # elements of distances at a time
_OUTPUT_AXES = {"Conv": 0, "QLinearConv": 0, "ConvInteger": 0, "FusedConv": 0, "ConvTranspose": 1}
_PRODUCTS = frozenset({"MatMul", "MatMulInteger", "QLinearMatMul", "FusedMatMul"})
_ELEMENTWISE = frozenset({"Identity", "Cast", "DequantizeLinear"})
_MATRIX = 2


@criterion("fpgm")
def fpgm(coupling: Coupling, context: Context) -> list[np.ndarray | Unscored]:
    """The sum of a unit's distances to all units of its group, over the filters that make them.

    He et al., "Filter Pruning via Geometric Median for Deep Convolutional Neural Networks Acceleration", CVPR 2019,
    arXiv:1811.00250. A filter is what a convolution or matrix product has for the unit on the axis of its outputs; for
    a head, all of its filters laid end to end. Groups that no such filter makes (recurrent units, embeddings) go by
    all of their stored matrices.
    """
    tally = Tally(coupling, context.aggregate)
    made = _output_slots(coupling)
    stored = set(coupling.stored_slots)
    for group in coupling.units.groups:
        matrices = [slot for slot in group.slots.tolist() if slot in stored and reads_weight(coupling, slot)]
        for slot in [slot for slot in matrices if slot in made] or matrices:
            vectors = _vectors(coupling, tally, group.roots, slot)
            if vectors is not None:
                tally.add(group.roots, _distance_sums(vectors))
    return tally.by_group("no filter makes its units")


def _output_slots(coupling: Coupling) -> set[int]:
    """Slots of stored weights that are the axis of a product's outputs."""
    found = set()
    for node in (site.node for site in coupling.sites):
        for operand in node.inputs:
            if operand is None or operand.rank < _MATRIX or not operand.is_constant:
                continue
            axis = _output_axis(node, operand)
            slot = None if axis is None else _stored_slot(coupling, operand.name, axis)
            if slot is not None:
                found.add(slot)
    return found


def _output_axis(node: NodeView, weight: Operand) -> int | None:
    if node.op in _OUTPUT_AXES:
        return _OUTPUT_AXES[node.op]
    if node.op in ("Gemm", "QGemm"):
        return int(bool(node.attr("transB" if weight.position else "transA", 0))) ^ int(weight.position > 0)
    if node.op in _PRODUCTS:
        return weight.rank - (1 if weight.position else _MATRIX)
    return None


def _stored_slot(coupling: Coupling, name: str, axis: int) -> int | None:
    """The slot of the stored tensor that this axis of a value is an axis of, behind decoders and Transpose."""
    view = coupling.view
    while name not in view.constants:
        maker = view.producer.get(name)
        if maker is None or not (maker.op in _ELEMENTWISE or maker.op == "Transpose"):
            return None
        if maker.op == "Transpose":
            rank = len(coupling.shapes.shape.get(name, ()))
            axis = list(maker.attrs.get("perm") or range(rank)[::-1])[axis]
        name = maker.inputs[0]
    return coupling.atoms.slot_at((name, -1, -1), axis)


def _vectors(coupling: Coupling, tally: Tally, roots: np.ndarray, slot: int) -> np.ndarray | None:
    """Per unit its part of a stored tensor, [units, n]; None for vectors, and where units have unequal parts."""
    place = coupling.atoms.slots[slot]
    tensor = weight(coupling.view, place.tensor)
    if tensor is None or sum(size > 1 for size in tensor.shape) < _MATRIX or place.axis >= len(tensor.shape):
        return None
    owner, unit = tally.owners.of(coupling.solution.label[place.start : place.start + place.size])
    first = tally.owners.of(roots)[1].min()
    mine = (unit >= first) & (unit < first + len(roots))
    owner, unit = owner[mine], unit[mine] - first
    if len(owner) % len(roots) or (np.bincount(unit, minlength=len(roots)) != len(owner) // len(roots)).any():
        return None
    order = np.argsort(unit, kind="stable")
    whole = np.moveaxis(tensor.whole(), place.axis, 0)
    vectors = whole[owner[order]].reshape(len(roots), -1)
    return np.asarray(np.nan_to_num(vectors, nan=0.0, posinf=0.0, neginf=0.0))


def _distance_sums(vectors: np.ndarray) -> np.ndarray:
    """Per row the sum of its Euclidean distances to all rows (float64)."""
    vectors = vectors.astype(np.float64)
    squares = np.einsum("ij,ij->i", vectors, vectors)
    step = max(1, _BLOCK // len(vectors))
    found = np.empty(len(vectors))
    for start in range(0, len(vectors), step):
        some = slice(start, start + step)
        apart = squares[some, None] + squares - 2 * (vectors[some] @ vectors.T)
        found[some] = np.sqrt(np.maximum(apart, 0)).sum(axis=1)
    return found
