"""Carry out a plan: a patch on a copy of the user's ModelProto, verified against what the plan predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import ValueInfoProto

from onnxprune.analyse import Source, analyse
from onnxprune.coupling.coupling import Coupling
from onnxprune.coupling.orders import Orders
from onnxprune.coupling.residual import ResidualBlock
from onnxprune.edit.blocks import blocks_called, drop_blocks
from onnxprune.edit.leftovers import drop_leftovers
from onnxprune.edit.literals import Literals
from onnxprune.edit.prediction import Prediction
from onnxprune.edit.selection import check_plan, orders_of, removed_classes_of
from onnxprune.edit.stored import Kept, kept_by_use, kept_in_place, slice_stored
from onnxprune.edit.verify import verify_dynamic, verify_shapes
from onnxprune.graph.bindings import Bindings
from onnxprune.graph.model import Model
from onnxprune.graph.shapes import infer_shapes
from onnxprune.graph.uncollected import uncollected
from onnxprune.graph.view import GraphView
from onnxprune.types import Plan


@dataclass(frozen=True)
class Edited:
    """The edited model; `kept` says per stored tensor and axis which indices stayed, `notes` what else changed."""

    model: Model
    kept: dict[str, Kept]
    notes: tuple[str, ...]


def apply(source: Source, plan: Plan, coupling: Coupling | None = None) -> Model:
    """The model with the units that `plan` does not keep removed. The source is not changed.

    `coupling` saves analysing the model again. Weights are sliced when the result is saved or read, one at a time.
    Raises PlanError where the plan does not fit the model, or the edited graph is not what the plan predicts.
    """
    if coupling is None:
        coupling = analyse(source, **analysis_options(plan))
        check_plan(coupling, plan)
    return carry(coupling, plan).model


def carry(coupling: Coupling, plan: Plan) -> Edited:
    """`edit` with all that a plan says: the units that go, the order of blocks' members, the residual blocks."""
    removed = removed_classes_of(coupling, plan)
    return edit(coupling, removed, orders_of(coupling, plan), blocks_called(coupling, plan.dropped))


def analysis_options(plan: Plan) -> dict[str, Any]:
    """The options under which the plan's groups were found, for `analyse`."""
    names = ("bind", "input_shapes", "allow_io_change", "specialise_functions", "measured")
    return {name: plan.analysis[name] for name in names if name in plan.analysis}


@uncollected()
def edit(
    coupling: Coupling, removed: np.ndarray, orders: Orders | None = None, dropped: Sequence[ResidualBlock] = ()
) -> Edited:
    """Remove the classes marked in `removed` (bool), of stored tensors brought into the order `orders`; and blocks.

    See `apply`.
    """
    edited = _narrowed(coupling, removed, orders)
    if not dropped:
        return edited
    notes = drop_blocks(edited.model, dropped)
    prediction = Prediction(coupling, removed, orders)
    bindings = _rebound(coupling, prediction)
    shapes = infer_shapes(
        GraphView(edited.model), bindings, {name: prediction.shape(name) for name in coupling.measured}
    )
    verify_shapes(coupling, prediction, shapes)
    stored = {tensor.name for tensor in edited.model.proto.graph.initializer}
    inside = coupling.view.constants.keys() - coupling.view.main.initializers.keys()
    kept = {name: found for name, found in edited.kept.items() if name in stored or name in inside}
    return Edited(edited.model, kept, (*edited.notes, *notes))


def _narrowed(coupling: Coupling, removed: np.ndarray, orders: Orders | None) -> Edited:
    source = coupling.view.model
    if not removed.any():
        return Edited(source.copy(), {}, ())
    prediction = Prediction(coupling, removed, orders)
    changed = kept_by_use(prediction)
    in_place = kept_in_place(prediction, changed)
    model = source.copy(
        without=[name for name, kept in in_place.items() if kept and name in coupling.view.initializers]
    )
    view = GraphView(model, coupling.view, changed)
    notes, kept = slice_stored(view, prediction, changed, in_place)
    _resize_infos(view, prediction, kept)
    predicted = {name: prediction.shape(name) for name in coupling.measured}
    literals = Literals(view, prediction, kept)
    bindings = _rebound(coupling, prediction)
    shapes = infer_shapes(view, bindings, predicted, visit=literals, like=coupling.shapes)
    for name in drop_leftovers(view, coupling.view, literals.insertions):
        shapes.shape.pop(name, None)
    verify_shapes(coupling, prediction, shapes)
    if coupling.bindings.any_dynamic:
        verify_dynamic(coupling, prediction, GraphView(model, view), bindings)
    return Edited(model, kept, (*notes, *literals.notes))


def _rebound(coupling: Coupling, prediction: Prediction) -> Bindings:
    """The bound input shapes; an input that the user lets shrink has its new size."""
    shapes = {name: prediction.shape(name) for name in coupling.bindings.shapes}
    return replace(coupling.bindings, shapes=shapes)


def _resize_infos(view: GraphView, prediction: Prediction, kept: dict[str, Kept]) -> None:
    """Bring the stated shapes of intermediate values, inputs and outputs of all graphs in line with the edit."""
    for scope in view.scopes:
        graph = scope.graph
        for info in [*graph.value_info, *(() if scope.is_call else (*graph.input, *graph.output))]:
            key = scope.key(info.name)
            stored = prediction.coupling.view.identity_source(key)
            if stored in kept:
                changed = {axis: len(indices) for axis, indices in kept[stored].items()}
            else:
                changed = prediction.changed_axes(key)
            for axis, size in changed.items():
                _resize(info, axis, None if scope.is_call else size)  # a function's calls need not be alike


def _resize(info: ValueInfoProto, axis: int, size: int | None) -> None:
    """State another length of an axis, or none at all."""
    if not info.type.HasField("tensor_type") or not info.type.tensor_type.HasField("shape"):
        return
    dims = info.type.tensor_type.shape.dim
    if axis >= len(dims):
        return
    if size is not None and dims[axis].HasField("dim_value"):
        dims[axis].dim_value = size
    elif size is None:
        dims[axis].Clear()
    else:
        # "12*batch" where five heads are left: ONNX Runtime reuses buffers between values of one name
        dims[axis].ClearField("dim_param")
