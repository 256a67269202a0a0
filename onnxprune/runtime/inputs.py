"""What a model's inputs must be fed with: names, element types, sizes; and whether a feed dictionary is that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper

from onnxprune.errors import SettingError
from onnxprune.graph.bindings import dimension_name
from onnxprune.graph.view import GraphView


@dataclass(frozen=True)
class InputSpec:
    """One input of a model: `dims` has an int where the size is fixed, else the dimension's name or None."""

    name: str
    dtype: np.dtype
    dims: tuple[int | str | None, ...]

    def __str__(self) -> str:
        sizes = ",".join(str(d) if isinstance(d, int) else d or "?" for d in self.dims)
        return f"{self.name!r} {self.dtype}[{sizes}]"


def input_specs(view: GraphView) -> dict[str, InputSpec]:
    """The model's inputs by name. Raises SettingError for one that is no tensor or whose rank is not known."""
    found = {}
    for name, info in view.inputs.items():
        kind = info.type
        if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
            raise SettingError(
                f"input {name!r} is no tensor of known rank, and cannot be fed with data",
                remedy="give the model's input a shape, with dynamic dimensions where they vary",
            )
        tensor = kind.tensor_type
        dtype = np.dtype(object) if tensor.elem_type == TensorProto.STRING else np.dtype(
            helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        )  # fmt: skip
        dims = tuple(d.dim_value if d.dim_value > 0 else dimension_name(d) or None for d in tensor.shape.dim)
        found[name] = InputSpec(name, dtype, dims)
    return found


def batch_size(specs: Mapping[str, InputSpec]) -> int | None:
    """The batch that the model is fixed to: the first size of its inputs; None where that is dynamic.

    Raises SettingError where the inputs begin with several sizes: then nothing says which axis holds the samples.
    """
    firsts = {spec.dims[0] if isinstance(spec.dims[0], int) else None for spec in specs.values() if spec.dims}
    if len(firsts) > 1:
        raise SettingError(
            "the model's inputs do not begin with the same size, so nothing says which axis holds the samples",
            remedy="give whole feeds with script.py:function; the inputs are " + listed(specs),
        )
    return firsts.pop() if firsts else None


def listed(specs: Mapping[str, InputSpec]) -> str:
    """The inputs as a person reads them."""
    return ", ".join(str(spec) for spec in specs.values())


def check_names(specs: Mapping[str, InputSpec], given: Mapping[str, object], origin: str) -> None:
    """Raise SettingError unless `given` has an entry for every input and no other."""
    missing = [name for name in specs if name not in given]
    unknown = [name for name in given if name not in specs]
    if missing or unknown:
        has = f"it has {', '.join(map(repr, given))}" if given else "it is empty"
        what = f"nothing for the input {missing[0]!r}" if missing else f"{unknown[0]!r}, which is no input"
        raise SettingError(f"{origin}: {what} ({has})", remedy=f"the model's inputs: {listed(specs)}")


def checked(specs: Mapping[str, InputSpec], feeds: Mapping[str, object], origin: str) -> dict[str, np.ndarray]:
    """The feeds as arrays of the inputs' element types.

    Floats become floats of another width, and integers integers where all values fit. Anything else that differs in
    name, type or shape raises SettingError, which says which and what was expected.
    """
    check_names(specs, feeds, origin)
    sizes: dict[str, tuple[int, str]] = {}
    found = {}
    for name, spec in specs.items():
        array = np.asarray(feeds[name])
        found[name] = converted(array, spec, origin)
        if array.ndim != len(spec.dims):
            raise _wrong(origin, spec, array)
        for dim, size in zip(spec.dims, array.shape, strict=True):
            if isinstance(dim, int) and dim != size:
                raise _wrong(origin, spec, array)
            if isinstance(dim, str):
                known, other = sizes.setdefault(dim, (size, name))
                if known != size:
                    raise SettingError(
                        f"{origin}: the dimension {dim!r} is {known} in {other!r} and {size} in {name!r}",
                        remedy=f"the model's inputs: {listed(specs)}",
                    )
    return found


def converted(array: np.ndarray, spec: InputSpec, origin: str) -> np.ndarray:
    """The array in the input's element type. Raises SettingError where that is a matter of opinion, or loses values."""
    if array.dtype == spec.dtype:
        return array
    if spec.dtype.kind == "O" and array.dtype.kind in "US":
        return array.astype(object)
    is_float = array.dtype.kind == "f" and (spec.dtype.kind in "fV" or "float" in spec.dtype.name)
    is_integer = array.dtype.kind in "iu" and spec.dtype.kind in "iu"
    if is_integer and array.size:
        bounds = np.iinfo(spec.dtype)
        is_integer = bool(array.min() >= bounds.min and array.max() <= bounds.max)
    if not is_float and not is_integer:
        raise _wrong(origin, spec, array)
    return array.astype(spec.dtype)


def _wrong(origin: str, spec: InputSpec, array: np.ndarray) -> SettingError:
    shape = ",".join(map(str, array.shape))
    return SettingError(
        f"{origin}: {spec.name!r} is {array.dtype}[{shape}]", remedy=f"the model's input is {spec}, batch first"
    )
