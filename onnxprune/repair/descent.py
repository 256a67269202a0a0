"""The weights of a program fitted to what should come out of it, all layers at once: small steps over small batches.

The error is the mean square of what is missing behind the last Relu or Clip. Each array of weights moves by Adam, at a
rate that is a share of its layer's size, risen for a tenth of the steps and then taken to zero along a cosine. Where
there are many weights for the samples the whole way leads too far: samples that are held back say how much of it to go.

Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, arXiv:1412.6980. Shazeer and Stern, "Adafactor",
ICML 2018, arXiv:1804.04235, take rates as shares of a weight's size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from onnxprune.repair.program import Program, Weights
from onnxprune.runtime.bounds import Bounds
from onnxprune.runtime.workers import Each

BATCH = 8
"""Samples of a step."""

PART = 4
"""Samples of a step that one thread takes."""

RATE = 0.01
"""The largest step of a weight, as a share of the root mean square of its layer's matrix."""

_RISE = 0.1  # of the steps
_FIRST, _SECOND = 0.9, 0.999  # what is kept of the running means of gradients and of their squares
_SHARES = (1.0, 0.75, 0.5, 0.25)  # of the whole way that are tried
_NOISE = 1e-6  # an error that float32 cannot tell from nothing
_CHUNK = 1 << 20  # elements that are read at a time: what the processor keeps close


@dataclass(frozen=True)
class Maps:
    """Samples of what a program reads, and of what should come out.

    `given` are [C, *spatial, N], `total` [K, *places, N] is what should come out before it is clipped, `counts` bool
    [*places, N] says which places do (None: all).
    """

    given: tuple[np.ndarray, ...]
    total: np.ndarray
    counts: np.ndarray | None = None

    @property
    def samples(self) -> int:
        """N."""
        return int(self.total.shape[-1])

    @property
    def nbytes(self) -> int:
        """Of what has to be held."""
        return self.total.nbytes + sum(maps.nbytes for maps in self.given)

    def parts(self, size: int) -> Iterator[Maps]:
        """In parts of at most so many samples, about as large as each other."""
        count = -(-self.samples // size)
        edges = [self.samples * part // count for part in range(count + 1)]
        for start, stop in pairwise(edges):
            given = tuple(np.ascontiguousarray(maps[..., start:stop]) for maps in self.given)
            counts = None if self.counts is None else np.ascontiguousarray(self.counts[..., start:stop])
            yield Maps(given, np.ascontiguousarray(self.total[..., start:stop]), counts)


@dataclass(frozen=True)
class Problem:
    """A program, and the `bounds` of what alone reads its output, if that is a Relu or Clip."""

    program: Program
    bounds: Bounds

    @property
    def chunk(self) -> int:
        """How many samples are taken at a time."""
        largest = max(layer.lowering.read * layer.lowering.places for layer in self.program.layers)
        return max(1, _CHUNK // largest)

    def error(self, weights: Weights, held: Sequence[Maps]) -> float:
        """The mean square of what is missing, summed over channels; infinite where it is no number."""

        def squares(part: Maps) -> np.ndarray:
            given, _ = self.program.run(part.given, weights)
            return np.asarray((self.bounds.clip(given) - self.bounds.clip(part.total)) ** 2)

        (found,) = _means(held, self.chunk, squares)
        total = float(found.sum())
        return total if np.isfinite(total) else np.inf

    def spread(self, held: Sequence[Maps]) -> float:
        """The variance of what should come out, summed over channels; 1 where it does not vary."""

        def powers(part: Maps) -> tuple[np.ndarray, np.ndarray]:
            clipped = self.bounds.clip(part.total)
            return clipped, clipped**2

        mean, second = _means(held, self.chunk, powers)
        variance = float((second - mean**2).sum())
        return variance if variance > 0 else 1.0

    def slope(self, weights: Weights, batch: Maps, each: Each = map) -> Weights:
        """Half the gradient of the mean square of what is missing, in the weights; the same whatever `each` is."""
        found = [np.zeros_like(w) for w in weights]
        for slopes in each(partial(self._pulled, weights), batch.parts(min(self.chunk, PART))):
            for total, one in zip(found, slopes, strict=True):
                total += one
        rows = np.float32(batch.total[0].size)
        return [w / rows for w in found]

    def _pulled(self, weights: Weights, part: Maps) -> Weights:
        given, kept = self.program.run(part.given, weights)
        missing = self.bounds.missing(given, part.total)
        if part.counts is not None:
            missing *= part.counts
        found = [np.zeros_like(w) for w in weights]
        self.program.pull(kept, weights, -missing, found)
        return found


@dataclass(frozen=True)
class Together:
    """Better weights, or those before where none were; errors on what only judges, as shares of its variance."""

    weights: Weights
    before: float
    after: float


def fit_together(
    problem: Problem,
    start: Weights,
    free: Sequence[np.ndarray | bool],
    fitted: Sequence[Maps],
    held: Sequence[Maps],
    *,
    steps: int,
    seed: int = 0,
    each: Each = map,
) -> Together:
    """Weights that bring the program's output nearest to the totals of `fitted`, a step's each, judged by `held`.

    `free` says of each array of `start` which elements may change (bool of its shape, or one for all). `seed` is of the
    order in which `fitted` are taken; `each` goes through parts of a step (runtime/workers.py).
    """
    scale = problem.spread(held)

    def error(weights: Weights) -> float:
        return problem.error(weights, held) / scale

    before = error(start)
    if not _NOISE < before < np.inf:
        return Together(start, before, before)
    end = _descend(problem, start, free, fitted, steps, np.random.default_rng(seed), each)
    best, found = before, start
    for share in _SHARES:
        tried = [w + np.float32(share) * (far - w) for w, far in zip(start, end, strict=True)]
        left = error(tried)
        if left < best:
            best, found = left, tried
    return Together(found, before, best)


def _descend(
    problem: Problem,
    start: Weights,
    free: Sequence[np.ndarray | bool],
    fitted: Sequence[Maps],
    steps: int,
    rng: np.random.Generator,
    each: Each,
) -> Weights:
    """The weights after so many steps."""
    sizes = [float(np.sqrt(np.mean(np.square(matrix, dtype=np.float64)))) for matrix in start[::2]]
    rates = [RATE * size for size in sizes for _ in range(2)]
    allowed = [np.asarray(mask, np.float32) for mask in free]
    weights = [w.copy() for w in start]
    first, second = ([np.zeros_like(w) for w in start] for _ in range(2))
    order: list[int] = []
    for step in range(1, steps + 1):
        order = order or rng.permutation(len(fitted)).tolist()
        slope = problem.slope(weights, fitted[order.pop()], each)
        speed = _speed(step / steps)
        for k, (w, mask) in enumerate(zip(weights, allowed, strict=True)):
            down = slope[k] * mask
            first[k] += (1 - _FIRST) * (down - first[k])
            second[k] += (1 - _SECOND) * (down * down - second[k])
            size = np.sqrt(second[k] / (1 - _SECOND**step)) + np.float32(1e-12)
            w -= np.float32(speed * rates[k] / (1 - _FIRST**step)) * first[k] / size
    return weights


def _speed(done: float) -> float:
    """The share of the rate when that share of the steps is done."""
    return done / _RISE if done < _RISE else 0.5 * (1 + np.cos(np.pi * (done - _RISE) / (1 - _RISE)))


def _means(
    held: Sequence[Maps], chunk: int, values: Callable[[Maps], np.ndarray | tuple[np.ndarray, ...]]
) -> list[np.ndarray]:
    """The mean of `values`, maps like the output, over the places that count (float64 [channels])."""
    sums: list[np.ndarray] = []
    count = 0
    for batch in held:
        for part in batch.parts(chunk):
            found = values(part)
            maps = found if isinstance(found, tuple) else (found,)
            if part.counts is not None:
                maps = tuple(np.where(part.counts, value, 0) for value in maps)
            here = [value.reshape(len(value), -1).sum(axis=1, dtype=np.float64) for value in maps]
            sums = [a + b for a, b in zip(sums, here, strict=True)] if sums else here
            count += part.total[0].size if part.counts is None else int(part.counts.sum())
    return [total / max(count, 1) for total in sums]
