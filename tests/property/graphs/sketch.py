"""A graph in the making: nodes, weights and the shapes of values, with the spellings that exporters choose between."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BATCH = 2


@dataclass(frozen=True)
class Value:
    """A tensor by name, with its shape at batch size BATCH; axis 0 of images, sequences and rows is the batch."""

    name: str
    shape: tuple[int, ...]

    @property
    def rank(self) -> int:
        return len(self.shape)


@dataclass
class Sketch:
    """What blocks add to. Every random choice comes from `rng`; weights from a numpy generator that it seeds."""

    rng: random.Random
    opset: int
    dynamic: bool
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[TensorProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    biases: dict[int, list[Value]] = field(default_factory=dict)
    count: int = 0

    def __post_init__(self) -> None:
        self.numbers = np.random.default_rng(self.rng.getrandbits(32))

    # -- choices -------------------------------------------------------------------------------------------------

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def divisor(self, number: int, least: int = 2) -> int | None:
        """A random divisor of at least `least`, and fewer than the number itself; None where there is none."""
        found = [d for d in range(least, number) if number % d == 0]
        return self.rng.choice(found) if found else None

    # -- values --------------------------------------------------------------------------------------------------

    def name(self, word: str) -> str:
        self.count += 1
        return f"{word}{self.count}"

    def input(self, word: str, shape: Sequence[int], dtype: int = TensorProto.FLOAT) -> Value:
        name = self.name(word)
        stated = ["batch" if self.dynamic and axis == 0 else size for axis, size in enumerate(shape)]
        self.inputs.append(helper.make_tensor_value_info(name, dtype, stated))
        return Value(name, tuple(shape))

    def op(self, op: str, *inputs: Value | None, shape: Sequence[int], **attrs: Any) -> Value:
        return self.several(op, *inputs, shapes=[shape], **attrs)[0]

    def several(self, op: str, *inputs: Value | None, shapes: Sequence[Sequence[int]], **attrs: Any) -> list[Value]:
        name = self.name(op.lower())
        outputs = [Value(name if k == 0 else f"{name}_{k}", tuple(shape)) for k, shape in enumerate(shapes)]
        given = [x.name if x is not None else "" for x in inputs]
        self.nodes.append(helper.make_node(op, given, [y.name for y in outputs], name=f"/{name}", **attrs))
        return outputs

    def constant(self, array: np.ndarray, word: str = "c") -> Value:
        """Stored, as an initializer or as a Constant node."""
        name = self.name(word)
        tensor = numpy_helper.from_array(np.asarray(array, order="C"), name)
        if self.chance(0.15):
            self.nodes.append(helper.make_node("Constant", [], [name], name=f"/{name}", value=tensor))
        else:
            self.weights.append(tensor)
        return Value(name, array.shape)

    def ints(self, *values: int) -> Value:
        return self.constant(np.asarray(values, np.int64), "n")

    def weight(self, *shape: int, fan: int = 1) -> Value:
        """Random, none of it near zero in sum; `fan` is how many of them are added up."""
        array = (self.numbers.normal(size=shape) / np.sqrt(max(fan, 1))).astype(np.float32)
        if len(shape) > 1 and self.chance(0.06):
            return self._quantised(array)
        if len(shape) > 2 and self.chance(0.06):
            flat = self.constant(array.reshape(shape[0], -1), "w")
            return self.op("Reshape", flat, self.ints(*shape), shape=shape)
        value = self.constant(array, "w")
        return self.op("Identity", value, shape=shape) if self.chance(0.05) else value

    def _quantised(self, array: np.ndarray) -> Value:
        """Stored in 8 bits, with one scale or one for each index of the first axis."""
        rows = self.chance(0.5)
        largest = np.abs(array).max(axis=tuple(range(rows, array.ndim)), keepdims=True) + 1e-3
        stored = self.constant(np.round(array / largest * 127).astype(np.int8), "q")
        scale = self.constant((largest / 127).astype(np.float32).reshape(-1 if rows else ()), "s")
        return self.op("DequantizeLinear", stored, scale, shape=array.shape, **({"axis": 0} if rows else {}))

    def vector(self, size: int, around: float = 0.3, *, shaped: tuple[int, ...] = ()) -> Value:
        """A bias or scale. Exporters store equal ones once: some are shared with an unrelated layer of that width."""
        known = self.biases.setdefault(size, [])
        if known and not shaped and self.chance(0.3):
            return self.rng.choice(known)
        array = (around + 0.2 * self.numbers.normal(size=shaped or (size,))).astype(np.float32)
        value = self.constant(array, "b")
        if not shaped:
            known.append(value)
        return value

    def positive(self, size: int) -> Value:
        """A variance."""
        return self.constant(self.numbers.uniform(0.5, 1.5, size).astype(np.float32), "var")

    # -- sizes that graphs carry ---------------------------------------------------------------------------------

    def reshape(self, x: Value, *shape: int) -> Value:
        """Reshape; the target spelled as numbers, with 0 and -1, or computed from the shape of x.

        Axis 0 is the batch, or the batch times something that was folded into it.
        """
        if x.shape[0] != BATCH or shape[0] != BATCH:
            first = -1 if self.dynamic or self.chance(0.5) else shape[0]
            return self.op("Reshape", x, self.ints(first, *shape[1:]), shape=shape)
        spelling = self.rng.choice(
            ["zero", "minus", "computed"] if self.dynamic else ["plain", "zero", "minus", "computed"]
        )
        if spelling == "computed":
            sizes = self.op("Shape", x, shape=(x.rank,))
            batch = self.op("Gather", sizes, self.constant(np.asarray(0, np.int64)), shape=(), axis=0)
            first = self.op("Unsqueeze", batch, self.ints(0), shape=(1,))
            target = self.op("Concat", first, self.ints(*shape[1:]), shape=(len(shape),), axis=0)
            return self.op("Reshape", x, target, shape=shape)
        numbers = list(shape)
        if spelling == "zero":
            numbers[0] = 0
            if len(numbers) > 2 and self.chance(0.3):
                numbers[self.rng.randrange(1, len(numbers))] = -1
        elif spelling == "minus":
            numbers[0] = -1
        return self.op("Reshape", x, self.ints(*numbers), shape=shape)

    def flatten(self, x: Value) -> Value:
        """[N, everything else]."""
        shape = (x.shape[0], prod(x.shape[1:]))
        if self.chance(0.5):
            return self.op("Flatten", x, shape=shape, axis=1)
        return self.reshape(x, *shape)

    def transpose(self, x: Value, *perm: int) -> Value:
        return self.op("Transpose", x, shape=[x.shape[p] for p in perm], perm=perm)

    def split(self, x: Value, axis: int, sizes: Sequence[int]) -> list[Value]:
        """As Split (with sizes, or without where they are equal) or as Slices."""
        shapes = [(*x.shape[:axis], n, *x.shape[axis + 1 :]) for n in sizes]
        at = axis - x.rank if self.chance(0.3) else axis
        if self.chance(0.35):
            return [self.slice(x, axis, sum(sizes[:k]), sum(sizes[: k + 1])) for k in range(len(sizes))]
        if len(set(sizes)) == 1 and self.chance(0.4):
            extra = {"num_outputs": len(sizes)} if self.opset >= 18 else {}
            return self.several("Split", x, shapes=shapes, axis=at, **extra)
        return self.several("Split", x, self.ints(*sizes), shapes=shapes, axis=at)

    def slice(self, x: Value, axis: int, start: int, end: int) -> Value:
        stop = 2**63 - 1 if end == x.shape[axis] and self.chance(0.5) else end
        shape = (*x.shape[:axis], end - start, *x.shape[axis + 1 :])
        return self.op("Slice", x, self.ints(start), self.ints(stop), self.ints(axis), shape=shape)

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        shape = list(values[0].shape)
        shape[axis] = sum(v.shape[axis] for v in values)
        return self.op("Concat", *values, shape=shape, axis=axis - len(shape) if self.chance(0.3) else axis)

    def reduce(self, op: str, x: Value, axes: Sequence[int], *, keep: bool = True) -> Value:
        """ReduceMean and its like: axes are an attribute, or from opset 18 on an input."""
        shape = [1 if a in axes else n for a, n in enumerate(x.shape) if keep or a not in axes]
        if self.opset >= 18 or op == "ReduceSum":
            return self.op(op, x, self.ints(*axes), shape=shape, keepdims=int(keep))
        return self.op(op, x, shape=shape, keepdims=int(keep), axes=list(axes))

    # -- the model -----------------------------------------------------------------------------------------------

    def model(self, outputs: Sequence[Value]) -> onnx.ModelProto:
        infos = [
            helper.make_tensor_value_info(
                y.name, TensorProto.FLOAT, ["batch" if self.dynamic and a == 0 else n for a, n in enumerate(y.shape)]
            )
            for y in outputs
        ]
        graph = helper.make_graph(self.nodes, "random", self.inputs, infos, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9)
