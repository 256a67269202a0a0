"""Shape arithmetic in numpy: the operators with which exporters compute sizes.

Each function takes the node and the input arrays (None for an absent optional input) and returns the output array.
They follow the ONNX operator specification for the integer, boolean and float scalars and short vectors that sizes
are made of; they are not meant for data. An operator that is not here simply has no value.

A *mover* only rearranges elements, so applying it to a boolean mask moves the mark "depends on a dynamic dimension"
with the elements; a function that is no mover spreads the mark: elementwise for the broadcasting operators, to every
element for the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from onnxprune.graph.view import Node

Array = np.ndarray
Function = Callable[..., Array | None]


@dataclass(frozen=True)
class Evaluator:
    """`spread` is "move" (rearranges), "pointwise" (broadcasts) or "all"; `data` is how many leading inputs move."""

    function: Function
    spread: str
    data: int = 1


EVALUATORS: dict[str, Evaluator] = {}


def _evaluates(*ops: str, spread: str = "all", data: int = 1) -> Callable[[Function], Function]:
    def register(function: Function) -> Function:
        for op in ops:
            if op in EVALUATORS:
                raise ValueError(f"{op} has an evaluator already")
            EVALUATORS[op] = Evaluator(function, spread, data)
        return function

    return register


def _axes(node: Node, args: tuple[Any, ...], position: int, rank: int) -> list[int] | None:
    """Axes given as an attribute (older opsets) or as an input, normalised; None when not given."""
    given: Any = node.attrs.get("axes")
    if given is None and len(args) > position and args[position] is not None:
        given = args[position].reshape(-1).tolist()
    return None if given is None else [int(a) % rank if rank else 0 for a in given]


def _truncating_div(a: Array, b: Array) -> Array:
    """Integer division rounds towards zero in ONNX, unlike numpy's floor."""
    if np.issubdtype(a.dtype, np.integer):
        quotient = np.abs(a) // np.maximum(np.abs(b), 1)
        return np.asarray(np.sign(a) * np.sign(b) * quotient, a.dtype)
    return np.asarray(a / b)


_BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": _truncating_div, "Pow": np.power,
    "And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor, "Equal": np.equal,
    "Less": np.less, "LessOrEqual": np.less_equal, "Greater": np.greater, "GreaterOrEqual": np.greater_equal,
}  # fmt: skip
_UNARY: dict[str, Callable[[Array], Array]] = {
    "Abs": np.abs, "Neg": np.negative, "Not": np.logical_not, "Ceil": np.ceil, "Floor": np.floor,
    "Round": np.rint, "Sqrt": np.sqrt, "Exp": np.exp, "Log": np.log, "Sign": np.sign, "Identity": np.asarray,
    "Reciprocal": np.reciprocal,
}  # fmt: skip


def _register_pointwise() -> None:
    for op, binary in _BINARY.items():

        def evaluate_binary(node: Node, a: Array, b: Array, f: Any = binary) -> Array:
            result = np.asarray(f(a, b))
            return result if result.dtype.kind == "b" else result.astype(a.dtype)

        _evaluates(op, spread="pointwise", data=2)(evaluate_binary)
    for op, unary in _UNARY.items():

        def evaluate_unary(node: Node, a: Array, f: Any = unary) -> Array:
            return np.asarray(f(a)).astype(a.dtype)

        _evaluates(op, spread="pointwise")(evaluate_unary)


_register_pointwise()


@_evaluates("Mod", spread="pointwise", data=2)
def _mod(node: Node, a: Array, b: Array) -> Array:
    return np.asarray(np.fmod(a, b) if node.attrs.get("fmod", 0) else np.mod(a, b))


@_evaluates("Min", "Max", spread="pointwise", data=99)
def _extreme(node: Node, *args: Array) -> Array:
    result = args[0]
    for other in args[1:]:
        result = np.minimum(result, other) if node.op == "Min" else np.maximum(result, other)
    return result


@_evaluates("Where", spread="pointwise", data=3)
def _where(node: Node, condition: Array, a: Array, b: Array) -> Array:
    return np.where(condition, a, b)


@_evaluates("Clip")
def _clip(node: Node, a: Array, low: Array | None = None, high: Array | None = None) -> Array:
    low = node.attrs.get("min") if low is None else low
    high = node.attrs.get("max") if high is None else high
    return a if low is None and high is None else np.clip(a, low, high).astype(a.dtype)


@_evaluates("Cast", spread="pointwise")
def _cast(node: Node, a: Array) -> Array:
    return a.astype(helper.tensor_dtype_to_np_dtype(node.attrs["to"]))


@_evaluates("CastLike")
def _cast_like(node: Node, a: Array, like: Array) -> Array:
    return a.astype(like.dtype)


@_evaluates("Concat", spread="move", data=99)
def _concat(node: Node, *args: Array) -> Array:
    return np.concatenate(args, axis=node.attrs["axis"])


@_evaluates("Gather", spread="move")
def _gather(node: Node, a: Array, indices: Array) -> Array:
    return np.take(a, indices, axis=node.attrs.get("axis", 0))


@_evaluates("Unsqueeze", spread="move")
def _unsqueeze(node: Node, a: Array, axes: Array | None = None) -> Array | None:
    given = node.attrs.get("axes") if axes is None else axes.reshape(-1).tolist()
    return None if given is None else np.expand_dims(a, tuple(given))


@_evaluates("Squeeze", spread="move")
def _squeeze(node: Node, a: Array, axes: Array | None = None) -> Array:
    chosen = _axes(node, (axes,), 0, a.ndim)
    return np.squeeze(a, None if chosen is None else tuple(chosen))


@_evaluates("Reshape", spread="move")
def _reshape(node: Node, a: Array, shape: Array | None = None) -> Array:
    target = list(node.attrs["shape"] if shape is None else shape.tolist())
    if not node.attrs.get("allowzero", 0):
        target = [a.shape[i] if size == 0 else size for i, size in enumerate(target)]
    return a.reshape(target)


@_evaluates("Flatten", spread="move")
def _flatten(node: Node, a: Array) -> Array:
    axis = node.attrs.get("axis", 1)
    rows = int(np.prod(a.shape[: axis if axis >= 0 else a.ndim + axis]))
    return a.reshape(rows, -1)


@_evaluates("Transpose", spread="move")
def _transpose(node: Node, a: Array) -> Array:
    return np.transpose(a, node.attrs.get("perm"))


@_evaluates("Slice", spread="move")
def _slice(node: Node, a: Array, *args: Array) -> Array:
    starts, ends, axes, steps = slice_arguments(node, [None, *args])
    index: list[slice] = [slice(None)] * a.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # Python's slice reads a negative end of a descending slice as "from the back"; ONNX clamps the huge one to -1.
        index[axis] = slice(start, None if step < 0 and end < -a.shape[axis] else end, step)
    return a[tuple(index)]


def slice_arguments(node: Node, args: list[Any]) -> tuple[list[int], list[int], list[int], list[int]]:
    """Starts, ends, axes and steps of a Slice of any opset; `args` are the values of its inputs, data included."""

    def read(position: int, name: str) -> list[int] | None:
        value = args[position] if len(args) > position else None
        return (
            list(node.attrs[name])
            if value is None and name in node.attrs
            else (None if value is None else [int(v) for v in np.asarray(value).reshape(-1)])
        )

    starts, ends = read(1, "starts"), read(2, "ends")
    if starts is None or ends is None:
        raise ValueError("Slice without starts or ends")
    axes = read(3, "axes") or list(range(len(starts)))
    return starts, ends, axes, read(4, "steps") or [1] * len(starts)


_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceProd": np.prod,
    "ReduceSum": np.sum,
    "ReduceMax": np.max,
    "ReduceMin": np.min,
}


@_evaluates("ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin")
def _reduce(node: Node, a: Array, axes: Array | None = None) -> Array:
    chosen = _axes(node, (axes,), 0, a.ndim)
    reduce: Callable[..., Any] = _REDUCTIONS[node.op]
    if chosen is None and node.attrs.get("noop_with_empty_axes", 0):
        return a
    result = reduce(a, axis=None if chosen is None else tuple(chosen), keepdims=bool(node.attrs.get("keepdims", 1)))
    return np.asarray(result, dtype=a.dtype)


@_evaluates("Range")
def _range(node: Node, start: Array, limit: Array, delta: Array) -> Array:
    return np.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


@_evaluates("ConstantOfShape")
def _constant_of_shape(node: Node, shape: Array) -> Array:
    fill = node.attrs.get("value")
    value = np.float32(0) if fill is None else np.asarray(numpy_helper.to_array(fill)).reshape(-1)[0]
    return np.full(tuple(shape.tolist()), value)


@_evaluates("Expand", spread="move")
def _expand(node: Node, a: Array, shape: Array) -> Array:
    return np.broadcast_to(a, np.broadcast_shapes(a.shape, tuple(shape.tolist())))


@_evaluates("Tile", spread="move")
def _tile(node: Node, a: Array, repeats: Array) -> Array:
    return np.tile(a, tuple(repeats.tolist()))


@_evaluates("NonZero")
def _non_zero(node: Node, a: Array) -> Array:
    return np.asarray(np.nonzero(a), dtype=np.int64)


@_evaluates("ScatterND")
def _scatter_nd(node: Node, a: Array, indices: Array, updates: Array) -> Array | None:
    if node.attrs.get("reduction", "none") != "none":
        return None
    result = a.copy()
    result[tuple(np.moveaxis(indices, -1, 0))] = updates
    return result


@_evaluates("CumSum")
def _cumsum(node: Node, a: Array, axis: Array) -> Array | None:
    if node.attrs.get("exclusive", 0) or node.attrs.get("reverse", 0):
        return None
    return np.cumsum(a, axis=int(axis.item()), dtype=a.dtype)


def split(node: Node, a: Array, sizes: Array | None = None) -> list[Array] | None:
    """What a Split makes of a value, a part for each output; None where its attributes and sizes do not fit.

    ONNX Runtime's optimiser writes the Gathers of a Shape as one Split.
    """
    axis, given = node.attrs.get("axis", 0), node.attrs.get("split") if sizes is None else sizes.tolist()
    length, count = a.shape[axis], len(node.outputs)
    if given is None:
        part = -(-length // count)
        given = [min(part, max(length - part * k, 0)) for k in range(count)]
    if sum(given) != length or len(given) != count:
        return None
    return np.split(a, np.cumsum(given[:-1]), axis=axis)
