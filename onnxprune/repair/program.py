"""A part of a network as steps over whole maps: what it gives, and how that moves with its weights.

Maps are float32 [channels, *spatial, samples] (repair/lowering.py). Values are numbered: those that are given come
first, then what each step makes. A step remembers what it needs of a run to say later how its output moves (`push`)
and what of a pull at its output reaches its inputs and weights (`pull`, the adjoint).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from onnxprune.repair.activations import Curve
from onnxprune.repair.lowering import Lowering

Weights = list[np.ndarray]
"""Each layer's matrix [groups, D, K] and bias [groups, K] in turn (float32)."""

Given = Sequence[np.ndarray]
Kept = tuple[np.ndarray, ...]
"""What a step remembers of a run."""

Moved = Sequence[np.ndarray | None]
"""By how much each value that is read moves; None where it stays."""


class Step(Protocol):
    """Makes one value of others."""

    @property
    def reads(self) -> tuple[int, ...]:
        """The numbers of the values that are read."""

    def run(self, given: Given, weights: Weights) -> tuple[np.ndarray, Kept]:
        """The value, and what is to be remembered."""

    def push(self, kept: Kept, moved: Moved, weights: Weights, change: Weights) -> np.ndarray | None:
        """By how much the value moves, to first order, with what it reads and with a change of the weights."""

    def pull(self, kept: Kept, back: np.ndarray, weights: Weights, found: Weights, wanted: Sequence[bool]) -> Moved:
        """The adjoint of `push`: for each value that is read, where that is wanted; what is for weights is added."""


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

    def push(self, kept: Kept, moved: Moved, weights: Weights, change: Weights) -> np.ndarray | None:
        """See Step."""
        layer, (before,) = self.lowering, moved
        value = layer.apply(layer.lower(kept[0]), change[2 * self.number])
        value += _along(change[2 * self.number + 1], value)
        if before is not None:
            value += layer.apply(layer.lower(before), weights[2 * self.number])
        return value

    def pull(self, kept: Kept, back: np.ndarray, weights: Weights, found: Weights, wanted: Sequence[bool]) -> Moved:
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

    def push(self, kept: Kept, moved: Moved, weights: Weights, change: Weights) -> np.ndarray | None:
        """See Step."""
        return None if moved[0] is None else np.asarray(moved[0] * kept[0], np.float32)

    def pull(self, kept: Kept, back: np.ndarray, weights: Weights, found: Weights, wanted: Sequence[bool]) -> Moved:
        """See Step."""
        return [np.asarray(back * kept[0], np.float32)]


@dataclass(frozen=True)
class Sum:
    """Two values of one shape added."""

    reads: tuple[int, ...]

    def run(self, given: Given, weights: Weights) -> tuple[np.ndarray, Kept]:
        """See Step."""
        return given[0] + given[1], ()

    def push(self, kept: Kept, moved: Moved, weights: Weights, change: Weights) -> np.ndarray | None:
        """See Step."""
        there = [value for value in moved if value is not None]
        return sum(there[1:], there[0]) if there else None

    def pull(self, kept: Kept, back: np.ndarray, weights: Weights, found: Weights, wanted: Sequence[bool]) -> Moved:
        """See Step."""
        return [back, back]


@dataclass(frozen=True)
class Product:
    """Two values of one shape multiplied."""

    reads: tuple[int, ...]

    def run(self, given: Given, weights: Weights) -> tuple[np.ndarray, Kept]:
        """See Step."""
        return given[0] * given[1], (given[0], given[1])

    def push(self, kept: Kept, moved: Moved, weights: Weights, change: Weights) -> np.ndarray | None:
        """See Step."""
        there = [value * other for value, other in zip(moved, kept[::-1], strict=True) if value is not None]
        return sum(there[1:], there[0]) if there else None

    def pull(self, kept: Kept, back: np.ndarray, weights: Weights, found: Weights, wanted: Sequence[bool]) -> Moved:
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

    def push(self, kept: Kept, moved: Moved, weights: Weights, change: Weights) -> np.ndarray | None:
        """See Step."""
        return None if moved[0] is None else self._moved(moved[0])

    def pull(self, kept: Kept, back: np.ndarray, weights: Weights, found: Weights, wanted: Sequence[bool]) -> Moved:
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

    def __post_init__(self) -> None:
        moves = [False] * self.inputs
        for step in self.steps:
            moves.append(isinstance(step, Layer) or any(moves[read] for read in step.reads))
        object.__setattr__(self, "_moves", tuple(moves))

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

    def push(self, kept: Sequence[Kept], weights: Weights, change: Weights) -> np.ndarray:
        """By how much the output moves, to first order, with a change of the weights."""
        moved: list[np.ndarray | None] = [None] * self.inputs
        for step, known in zip(self.steps, kept, strict=True):
            moved.append(step.push(known, [moved[read] for read in step.reads], weights, change))
        assert moved[-1] is not None
        return moved[-1]

    def pull(self, kept: Sequence[Kept], weights: Weights, back: np.ndarray, found: Weights) -> None:
        """Add to `found` what the adjoint of `push` makes of `back`, in the output's shape."""
        moves: tuple[bool, ...] = self._moves  # type: ignore[attr-defined]
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
