"""Which nodes stay in float32, and why: what the operator cannot, what grows too large, what the user says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
from onnx import TensorProto

from onnxprune.errors import SettingError
from onnxprune.graph.contrib import MICROSOFT
from onnxprune.graph.inference import schema_of
from onnxprune.graph.shapes import Shapes
from onnxprune.graph.view import GraphView, Node
from onnxprune.runtime.precision.kinds import FLOAT16, Kind

_FLOATS_BY_DESIGN = frozenset({"Resize", "GroupNorm", "SkipGroupNorm"})
"""Some inputs are float32 whatever the data is; the converter knows of them."""


def staying_in_float32(
    view: GraphView,
    shapes: Shapes,
    kind: Kind,
    large: Mapping[str, float],
    *,
    blocked: Sequence[str] = (),
    ignore: Sequence[str] = (),
    operators: Sequence[str] = (),
) -> dict[int, str]:
    """By node (index) why it stays; nodes that read and make no float32 are not in it.

    What is in `large` (see overflowing) stays with its maker and readers. `blocked` are operators that the converter
    leaves out, `operators` those that the user does, `ignore` globs of nodes. Raises SettingError for a glob or
    operator that matches nothing.
    """
    _check(view, ignore, operators)
    found: dict[int, str] = {}
    for node in view.nodes:
        if not any(shapes.dtype.get(name) == TensorProto.FLOAT for name in (*node.inputs, *node.outputs) if name):
            continue
        why = _why(node, shapes, kind, blocked, ignore, operators, large)
        if why:
            found[node.index] = why
    return found


def overflowing(
    view: GraphView, shapes: Shapes, kind: Kind, ranges: Mapping[str, float], headroom: float
) -> dict[str, float]:
    """Values and stored tensors beyond the type's range, with the largest magnitude of each.

    `ranges` are largest magnitudes by value (see ranges.py); what times `headroom` leaves the range counts.
    """
    large = {name: value for name, value in ranges.items() if value * headroom > kind.largest}
    for name, tensor in view.constants.items():
        if tensor.data_type == TensorProto.FLOAT and shapes.dtype.get(name, TensorProto.FLOAT) == TensorProto.FLOAT:
            array = view.model.array(tensor)
            largest = float(np.abs(array[np.isfinite(array)]).max(initial=0))
            if largest > kind.largest:
                large[name] = largest
    return large


def _why(
    node: Node, shapes: Shapes, kind: Kind, blocked: Sequence[str], ignore: Sequence[str], operators: Sequence[str],
    large: Mapping[str, float],
) -> str:  # fmt: skip
    if node.op in operators:
        return "in --ignore-op"
    if any(fnmatchcase(node.title, glob) for glob in ignore):
        return "in --ignore"
    floats = [name for name in (*node.outputs, *node.inputs) if name and shapes.dtype.get(name) == TensorProto.FLOAT]
    if any(name in shapes.sized for name in floats):
        return "computes sizes"
    over = next((name for name in floats if name in large), None)
    if over is not None:
        return f"{over} reaches {large[over]:.3g}, and {kind.spelled} ends at {kind.largest:.5g}"
    if node.op in blocked:
        return f"{node.op} is left out by ONNX Runtime's converter"
    return _no_type(node, shapes, kind)


def _no_type(node: Node, shapes: Shapes, kind: Kind) -> str:
    """Why the operator cannot have the type, "" if it can."""
    if node.op in _FLOATS_BY_DESIGN or node.bodies:
        return ""
    schema = schema_of(node.domain, node.op, node.opset)
    if schema is None:
        known = node.domain == MICROSOFT and kind is FLOAT16
        return "" if known else f"{node.domain or 'ai.onnx'}'s {node.op} is not known to have {kind.spelled}"
    allowed = {limit.type_param_str: limit.allowed_type_strs for limit in schema.type_constraints}
    wanted = f"tensor({kind.spelled})"
    sides = ((node.inputs, schema.inputs), (node.outputs, schema.outputs))
    for names, formal in sides:
        for position, name in enumerate(names):
            if not name or shapes.dtype.get(name) != TensorProto.FLOAT or not formal:
                continue
            place = formal[min(position, len(formal) - 1)]
            if wanted not in allowed.get(place.type_str, [place.type_str]):
                return f"{node.op} of opset {node.opset} has no {kind.spelled}"
    return ""


def _check(view: GraphView, ignore: Sequence[str], operators: Sequence[str]) -> None:
    for glob in ignore:
        if not any(fnmatchcase(node.title, glob) for node in view.nodes):
            raise SettingError(f"--ignore {glob}: no node matches", remedy="`onnxprune check-sparsity` lists nodes")
    there = {node.op for node in view.nodes}
    for name in operators:
        if name not in there:
            raise SettingError(f"--ignore-op {name}: the model has none", remedy=f"it has {', '.join(sorted(there))}")
