"""Two models side by side over the same data: what a consumer reads in one, and what it should give by the other.

That is what a repair needs of a layer whose input has already changed: products of the rows that it reads now, alone
and with the outputs that the dense model has at the same places.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from onnxprune.graph.view import GraphView
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
class Moments:
    """Means over rows x of the changed model and targets t, float64, per group of the consumer.

    `second` [groups, D, D] of x xᵀ, `mean` [groups, D] of x, `cross` [groups, D, K] of x tᵀ, `target_mean` [groups, K]
    and `target_second` [groups, K] of t and its square; over `rows` rows. D as in Consumer.matrix. `halves` are those
    of every other sample, where there are two; `kept` some of the rows themselves, where the aim has bounds.
    """

    second: np.ndarray
    mean: np.ndarray
    cross: np.ndarray
    target_mean: np.ndarray
    target_second: np.ndarray
    rows: int
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
        sampling = Sampling(how.positions, how.seed)
        minus = None if aim.minus is None else (CHANGED, aim.minus)
        self._halves = [
            RowProducts(
                aim.consumer, replace(sampling, half=half), model=CHANGED, target=(DENSE, aim.target), minus=minus
            )
            for half in range(2)
        ]  # fmt: skip
        self._rows = None
        if aim.bounds is not None:
            pairs = PairReader(aim.consumer, sampling, model=CHANGED, target=(DENSE, aim.target), minus=minus)
            self._rows = RowStore(pairs, how.data.samples)

    @property
    def reads(self) -> Collection[tuple[str, str]]:
        """See Accumulator."""
        return self._halves[0].reads

    @property
    def nbytes(self) -> int:
        """See Accumulator."""
        return sum(half.nbytes for half in self._halves) + (0 if self._rows is None else self._rows.nbytes)

    def add(self, values: Named, batch: Batch, tokens: Tokens | None) -> None:
        """See Accumulator."""
        for half in self._halves:
            half.add(values, batch, tokens)
        if self._rows is not None:
            self._rows.add(values, batch, tokens)

    def result(self) -> Moments:
        """What has been found."""
        first, second = (_moments(half) for half in self._halves)
        kept = None if self._rows is None else self._rows.result()
        if not first.rows or not second.rows:
            return replace(first if first.rows else second, kept=kept)
        share = first.rows / (first.rows + second.rows)
        joined = {
            name: share * getattr(first, name) + (1 - share) * getattr(second, name)
            for name in ("second", "mean", "cross", "target_mean", "target_second")
        }
        return Moments(**joined, rows=first.rows + second.rows, halves=(first, second), kept=kept)


def _moments(total: RowProducts) -> Moments:
    found = total.result()
    if "cross" not in found:
        nothing = np.zeros((1, 0))
        return Moments(found["second"], found["mean"], nothing, nothing, nothing, 0)
    return Moments(
        found["second"], found["mean"], found["cross"], found["target_mean"], found["target_second"],
        int(found["rows"]),
    )  # fmt: skip


def accumulators(how: Following, aims: Sequence[Aim]) -> list[AimSums]:
    """What takes in the values of both models, one for each aim."""
    return [AimSums(aim, how) for aim in aims]


def follow(
    how: Following, dense: GraphView, changed: GraphView, aims: Sequence[Aim], shapes: Mapping[str, tuple[int, ...]],
    dtypes: Mapping[str, int],
) -> list[Moments]:  # fmt: skip
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
