"""Sizes for the dynamic dimensions of a model's inputs: for analysis only, the file keeps its dynamic dimensions.

A dimension is named by its `dim_param`, or `INPUT.AXIS` where it has none. What the user does not bind gets a default
by what it looks like: 1 for a batch, 224 for an image's height and width, 16 for a sequence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnx import TensorShapeProto

from onnxprune.errors import SettingError
from onnxprune.graph.view import GraphView

BATCH, CHANNELS, IMAGE, SEQUENCE, SAMPLES = 1, 3, 224, 16, 64
IMAGE_RANK = 4


@dataclass(frozen=True)
class Bindings:
    """`shapes`: every graph input's shape in full. `dims`: what each dynamic dimension was bound to."""

    shapes: dict[str, tuple[int, ...]]
    dims: dict[str, int]
    dynamic: dict[str, tuple[bool, ...]]

    @property
    def any_dynamic(self) -> bool:
        return any(any(flags) for flags in self.dynamic.values())


def bind_inputs(
    view: GraphView,
    bind: Mapping[str, int] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> Bindings:
    """Bind every dynamic dimension of the graph's inputs.

    `bind` gives sizes by dimension name (`{"batch": 2}`), `input_shapes` whole shapes by input name.
    Raises SettingError for names that the model does not have and shapes that contradict its static dimensions.
    """
    bind, input_shapes = dict(bind or {}), dict(input_shapes or {})
    dims: dict[str, int] = {}
    pending: list[tuple[str, int, str]] = []
    sizes: dict[str, list[int]] = {}
    dynamic: dict[str, tuple[bool, ...]] = {}
    for name, info in view.inputs.items():
        if not info.type.HasField("tensor_type") or not info.type.tensor_type.HasField("shape"):
            if name in input_shapes:
                sizes[name] = list(input_shapes[name])
                dynamic[name] = (True,) * len(sizes[name])
            continue
        declared = info.type.tensor_type.shape.dim
        given = input_shapes.get(name)
        if given is not None and len(given) != len(declared):
            raise SettingError(
                f"--input-shapes {name}:{list(given)}: {len(given)} dimensions, the model's input has {len(declared)}",
                remedy=f"its shape is {_spell(declared)}",
            )
        sizes[name] = [-1] * len(declared)
        dynamic[name] = tuple(not (d.HasField("dim_value") and d.dim_value > 0) for d in declared)
        for axis, dim in enumerate(declared):
            key = dimension_name(dim) or f"{name}.{axis}"
            if not dynamic[name][axis]:
                if given is not None and given[axis] != dim.dim_value:
                    raise SettingError(
                        f"--input-shapes {name}: dimension {axis} is {dim.dim_value} in the model, not {given[axis]}",
                        remedy="only dynamic dimensions can be bound",
                    )
                sizes[name][axis] = dim.dim_value
            elif given is not None:
                sizes[name][axis] = int(given[axis])
                if dims.setdefault(key, int(given[axis])) != int(given[axis]):
                    raise SettingError(f"dimension {key!r} is bound to {dims[key]} and to {given[axis]}",
                                       remedy="bind it once")  # fmt: skip
            else:
                pending.append((name, axis, key))
    known = {key for _, _, key in pending} | set(dims)
    _check_names(bind, known, "--bind", "dynamic dimensions")
    _check_names(input_shapes, set(view.inputs), "--input-shapes", "inputs")
    for key, size in bind.items():
        if size < 1:
            raise SettingError(f"--bind {key}={size}", remedy="sizes are 1 or more")
        dims[key] = int(size)
    for name, axis, key in sorted(pending, key=lambda item: "+" in item[2]):
        if key not in dims:
            dims[key] = _sum_of_known(key, dims) or _default(view.inputs[name], len(sizes[name]), axis, key)
        sizes[name][axis] = dims[key]
    return Bindings({name: tuple(s) for name, s in sizes.items()}, dims, dynamic)


def dimension_name(dim: TensorShapeProto.Dimension) -> str:
    """What a dynamic dimension is called, empty where it has no name: converters write ? for what they do not know."""
    return "" if dim.dim_param == "?" else dim.dim_param


def varied(bindings: Bindings, view: GraphView) -> Bindings:
    """The same inputs with every dynamic dimension at another size, to see what stays dynamic."""
    other = {key: size + 1 if size < SEQUENCE else size + SEQUENCE * 2 for key, size in bindings.dims.items()}
    shapes = {}
    for name, shape in bindings.shapes.items():
        info = view.inputs[name]
        declared = info.type.tensor_type.shape.dim
        shapes[name] = tuple(
            other.get(dimension_name(declared[axis]) or f"{name}.{axis}", size) if axis < len(declared) else size
            for axis, size in enumerate(shape)
        )
    return Bindings(shapes, other, bindings.dynamic)


def _check_names(given: Mapping[str, Any], known: set[str], option: str, what: str) -> None:
    for key in given:
        if key not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise SettingError(f"{option}: the model has no {key!r}", remedy=f"its {what}: {listed}")


def _sum_of_known(key: str, dims: Mapping[str, int]) -> int | None:
    parts = [part.strip() for part in key.split("+")]
    if len(parts) > 1 and all(part in dims or part.isdigit() for part in parts):
        return sum(dims[part] if part in dims else int(part) for part in parts)
    return None


def _default(info: Any, rank: int, axis: int, key: str) -> int:
    word = key.lower()
    if re.search(r"batch|^n$|^b$|^bs$", word):
        return BATCH
    if re.search(r"seq|length|token|time|frame|^s$|^t$", word):
        return SEQUENCE if info.type.tensor_type.elem_type in (6, 7) or rank != 2 else SAMPLES * SAMPLES
    if axis == 0:
        return BATCH
    if rank == IMAGE_RANK:
        return CHANNELS if axis == 1 else IMAGE
    return SEQUENCE if info.type.tensor_type.elem_type in (6, 7) else SAMPLES


def _spell(declared: Any) -> str:
    return (
        "[" + ", ".join(d.dim_param or (str(d.dim_value) if d.HasField("dim_value") else "?") for d in declared) + "]"
    )
