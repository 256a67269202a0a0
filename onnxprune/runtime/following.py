"""Two models side by side over the same data: what a consumer reads in one, and what it should give by the other.

That is what a repair needs of a layer whose input has already changed: products of the rows that it reads now, alone
and with the outputs that the dense model has at the same places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxprune.graph.view import GraphView
from onnxprune.runtime.consumers import Consumer
from onnxprune.runtime.data import Data
from onnxprune.runtime.moments import RowProducts
from onnxprune.runtime.ort import RunOptions
from onnxprune.runtime.rows import Sampling
from onnxprune.runtime.stream import batch_for, stream

DENSE, CHANGED = "dense", "changed"


@dataclass(frozen=True)
class Aim:
    """A consumer (of the changed model) and the value `target` (of the dense one) that its output should come near.

    `minus` is a value of the changed model that is added to the output on the way to `target`.
    """

    consumer: Consumer
    target: str
    minus: str | None = None


@dataclass(frozen=True)
class Moments:
    """Means over rows x of the changed model and targets t, float64, per group of the consumer.

    `second` [groups, D, D] of x xᵀ, `mean` [groups, D] of x, `cross` [groups, D, K] of x tᵀ, `target_mean` [groups, K]
    and `target_second` [groups, K] of t and its square; over `rows` rows. D as in Consumer.matrix.
    """

    second: np.ndarray
    mean: np.ndarray
    cross: np.ndarray
    target_mean: np.ndarray
    target_second: np.ndarray
    rows: int


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


def accumulators(how: Following, aims: Sequence[Aim]) -> list[RowProducts]:
    """What takes in the values of both models, one for each aim."""
    sampling = Sampling(how.positions, how.seed)
    return [
        RowProducts(
            aim.consumer, sampling, model=CHANGED, target=(DENSE, aim.target),
            minus=None if aim.minus is None else (CHANGED, aim.minus),
        )
        for aim in aims
    ]  # fmt: skip


def moments_of(total: RowProducts) -> Moments:
    """What an accumulator has found."""
    found = total.result()
    return Moments(
        found["second"], found["mean"], found["cross"], found["target_mean"], found["target_second"],
        int(found["rows"]),
    )  # fmt: skip


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
    return [moments_of(total) for total in sums]
