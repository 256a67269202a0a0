"""Two models side by side over the same data: what a consumer reads in one, and what it should give by the other.

That is what a repair needs of a layer whose input has already changed: products of the rows that it reads now, alone
and with the outputs that the dense model has at the same places.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from onnxprune.graph.view import GraphView
from onnxprune.runtime.aimed import Moments
from onnxprune.runtime.bounds import Bounds
from onnxprune.runtime.consumers import Consumer
from onnxprune.runtime.data import Batch, Data
from onnxprune.runtime.keeping import KeptRows, RowStore
from onnxprune.runtime.moments import RowProducts
from onnxprune.runtime.ort import RunOptions
from onnxprune.runtime.pairs import PairReader
from onnxprune.runtime.rows import Named, Sampling, Tokens
from onnxprune.runtime.stream import batch_for, stream

DENSE, CHANGED = "dense", "changed"


@dataclass(frozen=True)
class Aim:
    """A consumer (of the changed model) and the value `target` (of the dense one) that its output should come near.

    `minus` is a value of the changed model that is added to the output on the way to `target`; `bounds` what the
    target is clipped to before anything reads it.
    """

    consumer: Consumer
    target: str
    minus: str | None = None
    bounds: Bounds | None = None


@dataclass(frozen=True)
class Followed(Moments):
    """What was found of an aim, per group of the consumer.

    `halves` are the moments of every other sample, where there are two; `kept` some of the rows themselves, where the
    aim has bounds.
    """

    halves: tuple[Moments, Moments] | None = None
    kept: KeptRows | None = None


@dataclass(frozen=True)
class Following:
    """Data, and how it is run.

    `positions` rows of each sample at most, drawn with `seed`; `mask` names the input that marks padding.
    """

    data: Data
    options: RunOptions = field(default_factory=RunOptions)
    positions: int | None = 256
    seed: int = 0
    mask: str | None = None
    batch: int | None = None


class AimSums:
    """What takes in the values of both models for one aim: products of rows, in two halves, and rows to keep."""

    def __init__(self, aim: Aim, how: Following) -> None:
        minus = None if aim.minus is None else (CHANGED, aim.minus)
        self._pairs = PairReader(
            aim.consumer, Sampling(how.positions, how.seed), model=CHANGED, target=(DENSE, aim.target), minus=minus
        )
        self._halves = [RowProducts(self._pairs), RowProducts(self._pairs)]
        self._rows = None if aim.bounds is None else RowStore(how.data.samples)

    @property
    def reads(self) -> Collection[tuple[str, str]]:
        """See Accumulator."""
        return self._pairs.reads

    @property
    def nbytes(self) -> int:
        """See Accumulator."""
        return sum(half.nbytes for half in self._halves) + (0 if self._rows is None else self._rows.nbytes)

    def add(self, values: Named, batch: Batch, tokens: Tokens | None) -> None:
        """See Accumulator."""
        for pair in self._pairs.read(values, batch, tokens):
            self._halves[pair.sample % 2].append(pair)
            if self._rows is not None:
                self._rows.append(pair)

    def result(self) -> Followed:
        """What has been found."""
        first, second = (Moments.of(half.result()) for half in self._halves)
        kept = None if self._rows is None else self._rows.result()
        if not first.rows or not second.rows:
            return Followed(**vars(first if first.rows else second), kept=kept)
        return Followed(**vars(first + second), halves=(first, second), kept=kept)


def accumulators(how: Following, aims: Sequence[Aim]) -> list[AimSums]:
    """What takes in the values of both models, one for each aim."""
    return [AimSums(aim, how) for aim in aims]


def follow(
    how: Following, dense: GraphView, changed: GraphView, aims: Sequence[Aim], shapes: Mapping[str, tuple[int, ...]],
    dtypes: Mapping[str, int],
) -> list[Followed]:  # fmt: skip
    """The moments of each aim, from one pass of both models over the data.

    Raises what `stream` raises.
    """
    sums = accumulators(how, aims)
    read = [name for total in sums for _, name in total.reads]
    stream(
        {DENSE: dense, CHANGED: changed}, sums, how.data,
        batch=how.batch or batch_for(dense, shapes, read), options=how.options, mask=how.mask, dtypes=dtypes,
    )  # fmt: skip
    return [total.result() for total in sums]
