"""Slice the tensors that are stored in the file: initializers (deferred to the time of saving) and Constant nodes.

A vector that several nodes share has atoms per use. Where its uses keep different indices, the uses that differ from
the most common choice get an initializer of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from onnx import TensorProto

from onnxprune.coupling.orders import Kept as Kept
from onnxprune.coupling.orders import Rows
from onnxprune.edit.insertions import add_initializer, fresh_name
from onnxprune.edit.prediction import Prediction
from onnxprune.graph.model import Model
from onnxprune.graph.tensors import set_array
from onnxprune.graph.view import GraphView

Signature = tuple[tuple[int, bytes], ...]
Use = tuple[int, int]  # node, input position
EVERY_USE = (-1, -1)  # all uses at once


def kept_by_use(prediction: Prediction) -> dict[str, dict[Use, Kept]]:
    """Per stored tensor that changes, per use, what stays of its axes."""
    coupling, found = prediction.coupling, {}
    for name, by_axis in coupling.tensor_slots.items():
        places: dict[Use, dict[int, np.ndarray]] = {}
        slots_of: dict[Use, dict[int, int]] = {}
        for axis, slots in by_axis.items():
            for index in slots:
                slot = coupling.atoms.slots[index]
                use: Use = slot.key[1:]
                kept = places.setdefault(use, {})
                slots_of.setdefault(use, {})[axis] = index
                if prediction.lengths[index] != slot.size:
                    kept[axis] = coupling.kept_of_slot(index, prediction.removed)
        uses = {use: _taken(prediction, slots_of[use], kept) for use, kept in places.items()}
        if any(uses.values()):
            found[name] = uses
    return found


def _taken(prediction: Prediction, slots: dict[int, int], kept: dict[int, np.ndarray]) -> Kept:
    """What to take of a stored tensor, for the places that are kept of it."""
    return dict(kept) if prediction.orders is None else prediction.orders.compose(slots, kept)


def kept_in_place(prediction: Prediction, changed: dict[str, dict[Use, Kept]]) -> dict[str, Kept]:
    """Of each tensor in `changed` (see `kept_by_use`), what stays of the stored one itself; {} where it stays whole.

    That is what most of its uses keep. With a reader that no rule traced it stays whole.
    """
    untraced = _untraced_uses(prediction)
    return {
        name: uses[EVERY_USE] if EVERY_USE in uses else {} if name in untraced else _most_common(list(uses.values()))
        for name, uses in changed.items()
    }


def slice_stored(
    view: GraphView,
    prediction: Prediction,
    changed: dict[str, dict[Use, Kept]],
    in_place: dict[str, Kept],
) -> tuple[list[str], dict[str, Kept]]:
    """Slice what `view`'s model stores (a copy of the coupling's, without the content of what changes in place).

    For `changed` see `kept_by_use`, for `in_place` `kept_in_place`. Gives notes for the report, and what was kept of
    each stored tensor that changed.
    """
    notes: list[str] = []
    kept_of = dict(in_place)
    for name, uses in changed.items():
        source = prediction.coupling.view.constants[name]
        _put(view, prediction, name, source, in_place[name])
        clones: dict[Signature, str] = {_signature(in_place[name]): ""}
        for (node, position), kept in uses.items():
            if (node, position) == EVERY_USE:
                continue
            signature = _signature(kept)
            if signature not in clones:
                clones[signature] = fresh_name(view, f"{name}_pruned")
                add_initializer(view, clones[signature], _sliced(prediction.coupling.view.model, source, kept))
                kept_of[clones[signature]] = kept
            if clones[signature]:
                view.nodes[node].read(position, clones[signature])
                notes.append(f"{view.nodes[node].title} no longer shares {name}: it reads {clones[signature]}")
    return notes, kept_of


def _untraced_uses(prediction: Prediction) -> set[str]:
    """Stored vectors with a reader that no rule traced: a graph output, a frozen node."""
    coupling = prediction.coupling
    view = coupling.view
    found = {view.identity_source(name) for name in view.outputs}
    traced = {slot.key for slot in coupling.atoms.slots if slot.key[1] >= 0}
    shared = {key[0] for key in traced}
    for name, readers in view.consumers.items():
        source = view.identity_source(name)
        if source in shared:
            found.update(
                source for node, position in readers
                if node.op != "Identity" and (source, node.index, position) not in traced
            )  # fmt: skip
    return found & shared


def _most_common(choices: list[Kept]) -> Kept:
    counts = Counter(_signature(kept) for kept in choices)
    best, _ = counts.most_common(1)[0]
    return next(kept for kept in choices if _signature(kept) == best)


def _signature(kept: Kept) -> Signature:
    return tuple((axis, kept[axis].tobytes()) for axis in sorted(kept))


def _new_dims(dims: list[int], kept: Kept) -> list[int]:
    return [len(kept[axis]) if axis in kept else size for axis, size in enumerate(dims)]


def _sliced(model: Model, tensor: TensorProto, kept: Kept) -> np.ndarray:
    array = model.array(tensor)
    # the axis that loses most first, so that the others copy less
    for axis in sorted(kept, key=lambda a: len(kept[a]) / max(array.shape[a], 1)):
        indices = kept[axis]
        if isinstance(indices, Rows):
            continue
        if len(indices) and np.array_equal(indices, np.arange(indices[0], indices[0] + len(indices))):
            array = array[(slice(None),) * axis + (slice(int(indices[0]), int(indices[-1]) + 1),)]
        else:
            array = np.take(array, indices, axis=axis)
    for axis, indices in kept.items():
        if isinstance(indices, Rows):
            along = np.expand_dims(
                indices.indices if indices.by < axis else indices.indices.T,
                [a for a in range(array.ndim) if a not in (axis, indices.by)],
            )
            array = np.take_along_axis(array, along, axis=axis)
    return np.ascontiguousarray(array)


def _put(view: GraphView, prediction: Prediction, name: str, source: TensorProto, kept: Kept) -> None:
    if kept:
        compute = partial(_sliced, prediction.coupling.view.model, source, kept)
        put_stored(view, name, _new_dims(list(source.dims), kept), compute)


def put_stored(view: GraphView, name: str, dims: Sequence[int], compute: Callable[[], np.ndarray]) -> None:
    """Give the stored tensor of that key, in `view`'s model, the shape `dims` and the array of `compute`.

    Of the main graph's initializers that is computed when it is asked for, of others at once.
    """
    if name in view.main.initializers:
        view.model.defer(name, dims, compute)
        return
    if name in view.initializers:  # of a body
        set_array(view.initializers[name], compute())
        return
    for attr in view.producer[name].proto.attribute:
        if attr.name == "value":
            set_array(attr.t, compute())


def put_array(view: GraphView, name: str, array: np.ndarray) -> None:
    """Give the stored tensor of that key another value, of the shape and type that it has."""
    put_stored(view, name, array.shape, lambda: array)
