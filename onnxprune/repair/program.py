"""A part of a network as steps over whole maps: what it gives, and which way its weights move that.

Maps are float32 [channels, *spatial, samples] (repair/lowering.py). Values are numbered: those that are given come
first, then what each step makes. A step remembers what it needs of a run to say later what of a pull at its output
reaches its inputs and weights: the adjoint of its derivative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from onnxprune.repair.activations import Curve
from onnxprune.repair.lowering import Lowering

Weights = list[np.ndarray]
"""Each layer's matrix [groups, D, K] and bias [groups, K] in turn (float32)."""

Given = Sequence[np.ndarray]
Kept = tuple[np.ndarray, ...]
"""What a step remembers of a run."""

Pulled = Sequence[np.ndarray | None]
"""For each value that is read; None where nothing is wanted."""


class Step(Protocol):
    """Makes one value of others."""

    @property
    def reads(self) -> tuple[int, ...]:
        """The numbers of the values that are read."""

    def run(self, given: Given, weights: Weights) -> tuple[np.ndarray, Kept]:
        """The value, and what is to be remembered."""

    def pull(self, kept: Kept, back: np.ndarray, weights: Weights, found: Weights, wanted: Sequence[bool]) -> Pulled:
        """What a pull at the value is for each that is read, where that is wanted; what is for weights is added."""


@dataclass(frozen=True)
class Layer:
    """A product with the weights of pair `number`, and their bias: `outputs` channels."""

    reads: tuple[int, ...]
    number: int
    lowering: Lowering
    outputs: int

    def run(self, given: Given, weights: Weights) -> tuple[np.ndarray, Kept]:
        """See Step."""
        value = self.lowering.apply(self.lowering.lower(given[0]), weights[2 * self.number])
        value += _along(weights[2 * self.number + 1], value)
        return value, (given[0],)

    def pull(self, kept: Kept, back: np.ndarray, weights: Weights, found: Weights, wanted: Sequence[bool]) -> Pulled:
        """See Step."""
        found[2 * self.number] += self.lowering.weigh(self.lowering.lower(kept[0]), back)
        bias = found[2 * self.number + 1]
        bias += back.reshape(len(back), -1).sum(axis=1).reshape(bias.shape)
        return [self.lowering.spread(back, weights[2 * self.number]) if wanted[0] else None]


@dataclass(frozen=True)
class Bend:
    """A function of every element: an activation, `curve` (repair/activations.py)."""

    reads: tuple[int, ...]
    curve: Curve

    def run(self, given: Given, weights: Weights) -> tuple[np.ndarray, Kept]:
        """See Step."""
        value, slope = self.curve(given[0])
        return np.asarray(value, np.float32), (slope,)

    def pull(self, kept: Kept, back: np.ndarray, weights: Weights, found: Weights, wanted: Sequence[bool]) -> Pulled:
        """See Step."""
        return [np.asarray(back * kept[0], np.float32)]


@dataclass(frozen=True)
class Sum:
    """Two values of one shape added."""

    reads: tuple[int, ...]

    def run(self, given: Given, weights: Weights) -> tuple[np.ndarray, Kept]:
        """See Step."""
        return given[0] + given[1], ()

    def pull(self, kept: Kept, back: np.ndarray, weights: Weights, found: Weights, wanted: Sequence[bool]) -> Pulled:
        """See Step."""
        return [back, back]


@dataclass(frozen=True)
class Product:
    """Two values of one shape multiplied."""

    reads: tuple[int, ...]

    def run(self, given: Given, weights: Weights) -> tuple[np.ndarray, Kept]:
        """See Step."""
        return given[0] * given[1], (given[0], given[1])

    def pull(self, kept: Kept, back: np.ndarray, weights: Weights, found: Weights, wanted: Sequence[bool]) -> Pulled:
        """See Step."""
        return [back * other if want else None for other, want in zip(kept[::-1], wanted, strict=True)]


@dataclass(frozen=True)
class Move:
    """Elements of a map elsewhere: a Slice, a Pad with zeros. `index` (int64 [channels, *spatial] of the output) says
    which element of the input, flattened, each one is, none of them twice, -1 where it is zero; `shape` is the input's.
    """

    reads: tuple[int, ...]
    index: np.ndarray
    shape: tuple[int, ...]

    def run(self, given: Given, weights: Weights) -> tuple[np.ndarray, Kept]:
        """See Step."""
        return self._moved(given[0]), ()

    def pull(self, kept: Kept, back: np.ndarray, weights: Weights, found: Weights, wanted: Sequence[bool]) -> Pulled:
        """See Step."""
        rows = np.zeros((int(np.prod(self.shape)), back.shape[-1]), np.float32)
        there = self.index >= 0
        rows[self.index[there]] = back[there]
        return [rows.reshape(*self.shape, -1)]

    def _moved(self, value: np.ndarray) -> np.ndarray:
        found = value.reshape(-1, value.shape[-1])[self.index]
        found[self.index < 0] = 0
        return np.asarray(found)


@dataclass(frozen=True)
class Program:
    """Steps in order, the last of which makes the output, from `inputs` values that are given."""

    inputs: int
    steps: tuple[Step, ...]

    @cached_property
    def moves(self) -> tuple[bool, ...]:
        """Of each value, whether weights have a part in it."""
        found = [False] * self.inputs
        for step in self.steps:
            found.append(isinstance(step, Layer) or any(found[read] for read in step.reads))
        return tuple(found)

    @property
    def layers(self) -> list[Layer]:
        """The steps that have weights."""
        return [step for step in self.steps if isinstance(step, Layer)]

    @property
    def work(self) -> int:
        """Multiply-accumulates of one sample."""
        return sum(layer.lowering.work * layer.outputs for layer in self.layers)

    def run(self, given: Given, weights: Weights) -> tuple[np.ndarray, list[Kept]]:
        """The output, and what each step remembers."""
        values, kept = list(given), list[Kept]()
        for step in self.steps:
            value, remembered = step.run([values[read] for read in step.reads], weights)
            values.append(value)
            kept.append(remembered)
        return values[-1], kept

    def pull(self, kept: Sequence[Kept], weights: Weights, back: np.ndarray, found: Weights) -> None:
        """Add to `found` the weights' derivatives of the output's product with `back`, which has its shape."""
        moves = self.moves
        backs: list[np.ndarray | None] = [None] * len(moves)
        backs[-1] = back
        for number in reversed(range(len(self.steps))):
            step, here = self.steps[number], backs.pop()
            if here is None or not moves[self.inputs + number]:
                continue
            wanted = [moves[read] for read in step.reads]
            for read, part in zip(step.reads, step.pull(kept[number], here, weights, found, wanted), strict=True):
                before = backs[read]
                if part is not None and moves[read]:
                    backs[read] = part if before is None else before + part


def _along(bias: np.ndarray, like: np.ndarray) -> np.ndarray:
    return np.asarray(bias.reshape(-1, *[1] * (like.ndim - 1)))
