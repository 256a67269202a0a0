"""Predicted lengths against inferred ones: an edit that does not come out as predicted is refused, by name."""

from __future__ import annotations

from onnxprune.coupling.coupling import Coupling
from onnxprune.edit.prediction import Prediction
from onnxprune.errors import PlanError
from onnxprune.graph.bindings import Bindings
from onnxprune.graph.shapes import Shapes, infer_at_other_sizes
from onnxprune.graph.view import GraphView

_REMEDY = "leave the groups that touch it out with --ignore; this is a fault in a rule, please report it"


def verify_shapes(coupling: Coupling, prediction: Prediction, shapes: Shapes) -> None:
    """Every value's inferred shape after the edit equals the predicted one. Raises PlanError naming the value."""
    known = coupling.shapes
    for node in coupling.view.nodes:
        for name in node.outputs:
            if _is_stored(coupling, name):
                continue
            if name in shapes.shape and name in known.shape and name not in known.arithmetic:
                _compare(node.title, name, prediction.shape(name), shapes.shape[name])


def verify_dynamic(coupling: Coupling, prediction: Prediction, edited: GraphView, bindings: Bindings) -> None:
    """The same at other sizes of the dynamic dimensions than those in `bindings`: what was dynamic must have stayed so.

    Skipped for values whose dense shape is not known at those sizes (a model may not work at any size).
    """
    if coupling.shapes.other is None:
        coupling.shapes.other = infer_at_other_sizes(coupling.view, coupling.bindings)
    dense = coupling.shapes.other
    found = infer_at_other_sizes(edited, bindings, like=dense)
    for node in coupling.view.nodes:
        for name in node.outputs:
            if name not in dense.shape or name not in found.shape or name in coupling.shapes.arithmetic:
                continue
            if _is_stored(coupling, name):
                continue
            before, after = coupling.shapes.shape[name], prediction.shape(name)
            if len(dense.shape[name]) != len(before):
                continue
            expected = tuple(
                _at_other_size(size, old, new, seen)
                for size, old, new, seen in zip(dense.shape[name], before, after, found.shape[name], strict=True)
            )
            _compare(node.title, name, expected, found.shape[name])


def _is_stored(coupling: Coupling, name: str) -> bool:
    """What a Constant holds is cut, not inferred: for each reader its own way if shared, anew if it is indices."""
    return coupling.view.identity_source(name) in coupling.view.constants


def _at_other_size(size: int, old: int, new: int, seen: int) -> int:
    """The length after the edit of an axis of `size`, where one of `old` became `new`.

    An axis may be a dynamic length joined to the pruned one (they add) or folded with it (they multiply).
    """
    folded = size * new // old if old and size * new % old == 0 else size
    return folded if seen == folded else size - (old - new)


def _compare(node: str, name: str, expected: tuple[int, ...], found: tuple[int, ...]) -> None:
    if expected != found:
        raise PlanError(
            f"{name} (from {node}) would be {list(found)}, where the plan needs {list(expected)}", remedy=_REMEDY
        )
