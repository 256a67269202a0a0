"""Layers one behind the other, with Relus or Clips between them, fitted together to what the last one should give.

A least squares problem that is linear in each layer's weights, not in all of them. Each round (Gauss and Newton, damped
as by Levenberg and Marquardt) takes what clips as it is, which makes the problem linear, and goes down it by conjugate
gradients. Samples that are held back say how many steps of these, and how much of them, and whether to go on: few
steps are what keeps weights near those before.

Martens, "Deep learning via Hessian-free optimization", ICML 2010, stops conjugate gradients by such a look back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnxprune.repair.lowering import Lowering
from onnxprune.runtime.bounds import Bounds

ROUNDS = 3
STEPS = (5, 10, 20, 30)
"""Steps of conjugate gradients after which a round's solution is looked at."""

DAMPING = 1e-3  # of the mean of the normal matrix's diagonal, layer by layer
_SHARES = (1.0, 0.5, 0.25)  # of a solution that are tried
_WORTH = 2e-2  # of the error: what a round must gain for another one to be taken
_NOISE = 1e-6  # an error that float32 cannot tell from nothing
_CHUNK = 1 << 21  # elements that are read at a time
_FREE = Bounds()

Weights = list[np.ndarray]
"""Each layer's matrix [groups, D, K] and bias [groups, K] in turn (float32)."""


@dataclass(frozen=True)
class Layers:
    """Layers in order, with what clips behind each; behind the last, what alone reads it or its sum with a shortcut."""

    lowerings: Sequence[Lowering]
    bounds: Sequence[Bounds | None]

    def chunk(self) -> int:
        """How many samples are taken at a time."""
        largest = max(layer.read * layer.places for layer in self.lowerings)
        return max(1, _CHUNK // largest)

    def work(self, weights: Weights) -> int:
        """Multiply-accumulates of one sample's outputs."""
        return sum(layer.places * matrix.size for layer, matrix in zip(self.lowerings, weights[::2], strict=True))


@dataclass(frozen=True)
class Maps:
    """Samples of what the first layer reads, and of what comes out behind the last one.

    `read` is [C, *spatial, N], `total` [K, *places, N] what should come out before it is clipped, `added` what a
    shortcut gives of it (None: nothing), `counts` bool [*places, N] which places do (None: all).
    """

    read: np.ndarray
    total: np.ndarray
    added: np.ndarray | None = None
    counts: np.ndarray | None = None

    def chunks(self, size: int) -> Iterator[Maps]:
        """Parts of so many samples."""
        for start in range(0, self.read.shape[-1], size):
            some = slice(start, start + size)
            read, total, added, counts = (
                None if maps is None else np.ascontiguousarray(maps[..., some])
                for maps in (self.read, self.total, self.added, self.counts)
            )
            assert read is not None
            assert total is not None
            yield Maps(read, total, added, counts)


@dataclass(frozen=True)
class Together:
    """Better weights, or those before where none were; errors on what only judges, as shares of its variance."""

    weights: Weights
    before: float
    after: float


def fit_together(
    layers: Layers, start: Weights, free: Sequence[np.ndarray | bool], fitted: Maps, held: Maps
) -> Together:
    """Weights that bring what comes out behind the layers nearest to `fitted`'s totals, judged by `held`.

    `free` says of each array of `start` which elements may change (bool of its shape, or one for all).
    """
    scale = _spread(layers, held)

    def error(weights: Weights) -> float:
        return _error(layers, weights, held) / scale

    before = after = error(start)
    weights = start
    if not _NOISE < before < np.inf:
        return Together(weights, before, before)
    levels: list[float] | None = None
    for _ in range(ROUNDS):
        at = _Linear(layers, weights, fitted, free)
        levels = levels or at.levels()
        best, found = after, weights
        for solution in _descend(at, levels):
            for share in _SHARES:
                tried = [w + np.float32(share) * step for w, step in zip(weights, solution, strict=True)]
                left = error(tried)
                if left < best:
                    best, found = left, tried
        gained, after, weights = after - best, best, found
        if gained < _WORTH * before:
            break
    return Together(weights, before, after)


class _Linear:
    """The problem around some weights: which of what clips lets through, and the normal equations' two sides."""

    def __init__(self, layers: Layers, weights: Weights, maps: Maps, free: Sequence[np.ndarray | bool]) -> None:
        self._layers, self._weights, self._free = layers, weights, free
        self._points: list[_Point] = []
        self.side: Weights = [np.zeros_like(w) for w in weights]
        rows = 0
        for chunk in maps.chunks(layers.chunk()):
            point, missing = _Point.of(layers, weights, chunk)
            self._points.append(point)
            self._pull(point, missing, self.side)
            rows += chunk.total[0].size
        self._scale = np.float32(1 / max(rows, 1))
        self.side = self._freed(self.side)

    def levels(self) -> list[float]:
        """The mean of the normal matrix's diagonal, for each array of the weights."""
        found = [self._mean_diagonal(number) for number in range(len(self._weights))]
        largest = max(found, default=0.0)
        return [max(value, 1e-9 * largest) or 1.0 for value in found]

    def _mean_diagonal(self, number: int) -> float:
        """By a random vector of signs (Hutchinson)."""
        signs = np.random.default_rng(number).choice(np.array([-1, 1], np.float32), self._weights[number].shape)
        probe = self._allowed([signs if n == number else np.zeros_like(w) for n, w in enumerate(self._weights)])
        return _dot(self.product(probe), probe) / max(int(np.count_nonzero(probe[number])), 1)

    def product(self, step: Weights) -> Weights:
        """The normal matrix, undamped, times a step."""
        found = [np.zeros_like(w) for w in step]
        for point in self._points:
            self._pull(point, self._push(point, step), found)
        return self._freed(found)

    def _push(self, point: _Point, step: Weights) -> np.ndarray:
        moved: np.ndarray | None = None
        last = len(self._layers.lowerings) - 1
        for number, layer in enumerate(self._layers.lowerings):
            here = layer.apply(layer.lower(point.read[number]), step[2 * number])
            here += _along(step[2 * number + 1], here)
            if moved is not None:
                here += layer.apply(layer.lower(moved), self._weights[2 * number])
            if number < last:
                here *= point.through[number]
            moved = here
        assert moved is not None
        return moved

    def _pull(self, point: _Point, given: np.ndarray, found: Weights) -> None:
        """Add to `found` what the adjoint of `_push` makes of `given`, where that counts."""
        back = given * point.active
        for number in reversed(range(len(self._layers.lowerings))):
            layer = self._layers.lowerings[number]
            found[2 * number] += layer.weigh(layer.lower(point.read[number]), back)
            bias = found[2 * number + 1]
            bias += back.reshape(len(back), -1).sum(axis=1).reshape(bias.shape)
            if number:
                back = layer.spread(back, self._weights[2 * number]) * point.through[number - 1]

    def _freed(self, found: Weights) -> Weights:
        return self._allowed([x * self._scale for x in found])

    def _allowed(self, found: Weights) -> Weights:
        return [x * np.asarray(mask, np.float32) for x, mask in zip(found, self._free, strict=True)]


@dataclass(frozen=True)
class _Point:
    """Of some samples: what each layer reads, what is let through behind all but the last, and which outputs count."""

    read: list[np.ndarray]
    through: list[np.ndarray]
    active: np.ndarray

    @classmethod
    def of(cls, layers: Layers, weights: Weights, maps: Maps) -> tuple[_Point, np.ndarray]:
        """The point, and what its outputs miss (where it counts)."""
        read, raw = _forward(layers, weights, maps.read)
        through = [(z > b.low) & (z < b.high) for z, b in zip(raw, map(_or_free, layers.bounds), strict=True)]
        end = _or_free(layers.bounds[-1])
        given = raw[-1] if maps.added is None else raw[-1] + maps.added
        missing = end.missing(given, maps.total)
        active = ((given > end.low) | (maps.total > end.low)) & ((given < end.high) | (maps.total < end.high))
        if maps.counts is not None:
            active &= maps.counts
        return cls(read, through[:-1], active), missing


def _forward(layers: Layers, weights: Weights, maps: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What each layer reads, and what it gives before that is clipped."""
    read: list[np.ndarray] = [maps]
    raw: list[np.ndarray] = []
    for number, layer in enumerate(layers.lowerings):
        if number:
            read.append(_or_free(layers.bounds[number - 1]).clip(raw[-1]))
        given = layer.apply(layer.lower(read[-1]), weights[2 * number])
        raw.append(given + _along(weights[2 * number + 1], given))
    return read, raw


def _descend(at: _Linear, levels: Sequence[float]) -> Iterator[Weights]:
    """The solution after each of STEPS steps of conjugate gradients, each array of the weights scaled by its level."""
    solution = [np.zeros_like(w) for w in at.side]
    left = at.side
    ahead = [x / np.float32(level) for x, level in zip(left, levels, strict=True)]
    way, power = ahead, _dot(left, ahead)
    for number in range(1, STEPS[-1] + 1):
        if not power > 0:
            break
        turned = [x + np.float32(DAMPING * level) * w for x, w, level in zip(at.product(way), way, levels, strict=True)]
        length = np.float32(power / max(_dot(way, turned), 1e-30))
        solution = [x + length * w for x, w in zip(solution, way, strict=True)]
        left = [x - length * w for x, w in zip(left, turned, strict=True)]
        ahead = [x / np.float32(level) for x, level in zip(left, levels, strict=True)]
        power, last = _dot(left, ahead), power
        way = [x + np.float32(power / last) * w for x, w in zip(ahead, way, strict=True)]
        if number in STEPS:
            yield solution


def _error(layers: Layers, weights: Weights, maps: Maps) -> float:
    """The mean square of what is missing behind the last bounds, summed over outputs."""
    end = _or_free(layers.bounds[-1])

    def missing(chunk: Maps) -> np.ndarray:
        given = _forward(layers, weights, chunk.read)[1][-1]
        given = given if chunk.added is None else given + chunk.added
        return np.asarray(end.clip(given) - end.clip(chunk.total))

    found = _mean_square(layers, maps, missing)
    return found if np.isfinite(found) else np.inf


def _spread(layers: Layers, maps: Maps) -> float:
    """The variance of the clipped target, summed over outputs; 1 where it does not vary."""
    end = _or_free(layers.bounds[-1])
    clipped = end.clip(maps.total).reshape(len(maps.total), -1)
    if maps.counts is not None:
        clipped = clipped[:, maps.counts.reshape(-1)]
    variance = float(clipped.var(axis=1, dtype=np.float64).sum()) if clipped.size else 0.0
    return variance if variance > 0 else 1.0


def _mean_square(layers: Layers, maps: Maps, values: Callable[[Maps], np.ndarray]) -> float:
    total, count = 0.0, 0
    for chunk in maps.chunks(layers.chunk()):
        squares = values(chunk) ** 2
        if chunk.counts is not None:
            squares *= chunk.counts
        total += float(squares.sum(dtype=np.float64))
        count += chunk.total[0].size if chunk.counts is None else int(chunk.counts.sum())
    return total / max(count, 1)


def _or_free(bounds: Bounds | None) -> Bounds:
    return _FREE if bounds is None else bounds


def _along(bias: np.ndarray, like: np.ndarray) -> np.ndarray:
    return np.asarray(bias.reshape(-1, *[1] * (like.ndim - 1)))


def _dot(one: Weights, other: Weights) -> float:
    return sum((float(np.vdot(x.astype(np.float64), y)) for x, y in zip(one, other, strict=True)), 0.0)
