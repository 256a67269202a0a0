"""Attention over sequences [N, T, D]: random head counts, fused or split projections, shared keys and values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tests.property.graphs.pointwise import add
from tests.property.graphs.sketch import Sketch, Value


def linear(s: Sketch, x: Value, out: int, *, bias: bool = True) -> Value:
    """MatMul with a stored matrix (perhaps transposed before it), Add; over the last axis."""
    inside = x.shape[-1]
    if s.chance(0.15):
        weight = s.transpose(s.weight(out, inside, fan=inside), 1, 0)
    else:
        weight = s.weight(inside, out, fan=inside)
    y = s.op("MatMul", x, weight, shape=(*x.shape[:-1], out))
    return add(s, y, s.vector(out)) if bias and s.chance(0.8) else y


Table = Callable[[Sketch, int], Value]  # from the number of heads to what is added to their scores


@dataclass(frozen=True)
class Heads:
    """Query heads, key heads (a divisor of these), size of a query's and of a value's head."""

    queries: int
    keys: int
    size: int
    value_size: int


def attention(s: Sketch, x: Value, table: Table | None = None) -> Value:
    """Pre- or post-norm is the caller's; gives the projected output, of x's shape. `table` makes a bias for scores."""
    width = x.shape[2]
    heads = _heads(s)
    q, k, v = s.rng.choice([_separate, _fused_split, _fused_stacked])(s, x, heads)
    if s.chance(0.25):
        q, k = _rotated(s, q), _rotated(s, k)
    if heads.keys < heads.queries:
        k, v = _repeated(s, k, heads), _repeated(s, v, heads)
    folded = table is None and s.chance(0.25)
    n, h, t, _ = q.shape
    if folded:
        q, k, v = (s.reshape(part, n * h, t, part.shape[3]) for part in (q, k, v))
    scores = _scores(s, q, k)
    if table is not None:
        scores = add(s, scores, table(s, h))
    elif not folded:
        scores = _masked(s, scores)
    weights = s.op("Softmax", scores, shape=scores.shape, axis=-1)
    mixed = s.op("MatMul", weights, v, shape=(*scores.shape[:-1], v.shape[-1]))
    if folded:
        mixed = s.reshape(mixed, n, h, t, v.shape[-1])
    joined = s.reshape(s.transpose(mixed, 0, 2, 1, 3), n, t, h * v.shape[-1])
    return linear(s, joined, width)


def _heads(s: Sketch) -> Heads:
    queries, size = s.rng.choice([2, 3, 4]), s.rng.choice([2, 4, 6])
    keys = s.rng.choice([d for d in range(1, queries + 1) if queries % d == 0]) if s.chance(0.3) else queries
    return Heads(queries, keys, size, s.rng.choice([size, size, 3]))


def _apart(s: Sketch, x: Value, heads: int) -> Value:
    """[N, T, heads x size] to [N, heads, T, size]."""
    n, t, d = x.shape
    return s.transpose(s.reshape(x, n, t, heads, d // heads), 0, 2, 1, 3)


def _separate(s: Sketch, x: Value, heads: Heads) -> list[Value]:
    bias = s.chance(0.7)
    q = linear(s, x, heads.queries * heads.size, bias=bias)
    k = linear(s, x, heads.keys * heads.size, bias=bias)
    v = linear(s, x, heads.keys * heads.value_size, bias=bias)
    return [_apart(s, part, count) for part, count in ((q, heads.queries), (k, heads.keys), (v, heads.keys))]


def _fused_split(s: Sketch, x: Value, heads: Heads) -> list[Value]:
    """One projection, cut in three, then each into heads."""
    sizes = [heads.queries * heads.size, heads.keys * heads.size, heads.keys * heads.value_size]
    parts = s.split(linear(s, x, sum(sizes)), 2, sizes)
    return [_apart(s, part, n) for part, n in zip(parts, (heads.queries, heads.keys, heads.keys), strict=True)]


def _fused_stacked(s: Sketch, x: Value, heads: Heads) -> list[Value]:
    """One projection to [N, T, 3, heads, size], the three chosen by Gather or Split; only if all are alike."""
    if heads.keys != heads.queries or heads.value_size != heads.size:
        return _fused_split(s, x, heads)
    n, t, _ = x.shape
    h, d = heads.queries, heads.size
    stacked = s.transpose(s.reshape(linear(s, x, 3 * h * d), n, t, 3, h, d), 2, 0, 3, 1, 4)
    if s.chance(0.5):
        index = [s.constant(np.asarray(i, np.int64)) for i in range(3)]
        return [s.op("Gather", stacked, i, shape=(n, h, t, d), axis=0) for i in index]
    parts = s.several("Split", stacked, s.ints(1, 1, 1), shapes=[(1, n, h, t, d)] * 3, axis=0)
    return [s.op("Squeeze", part, s.ints(0), shape=(n, h, t, d)) for part in parts]


def _rotated(s: Sketch, x: Value) -> Value:
    """Rotary position embedding: x cos + (second half negated, first half) sin."""
    t, d = x.shape[2:]
    first, second = s.slice(x, 3, 0, d // 2), s.slice(x, 3, d // 2, d)
    turned = s.concat([s.op("Neg", second, shape=second.shape), first], 3)
    angles = np.outer(np.arange(t), 1.0 / np.arange(1, d // 2 + 1))
    cos, sin = (s.constant(np.tile(f(angles), 2).astype(np.float32)[None, None]) for f in (np.cos, np.sin))
    return add(s, s.op("Mul", x, cos, shape=x.shape), s.op("Mul", turned, sin, shape=x.shape))


def _repeated(s: Sketch, x: Value, heads: Heads) -> Value:
    """Keys or values of shared heads for each query head that shares them, as torch exports repeat_interleave."""
    n, h, t, d = x.shape
    times = heads.queries // heads.keys
    x = s.op("Unsqueeze", x, s.ints(2), shape=(n, h, 1, t, d))
    target = s.ints(1, 1, times, 1, 1) if s.dynamic or s.chance(0.5) else s.ints(n, h, times, t, d)
    x = s.op("Expand", x, target, shape=(n, h, times, t, d))
    return s.reshape(x, n, h * times, t, d)


def _scores(s: Sketch, q: Value, k: Value) -> Value:
    """q times k transposed, scaled before or after or both; batch and heads may be folded into one axis."""
    t, d = q.shape[-2:]
    factor = s.constant(np.asarray(d**-0.5, np.float32))
    if s.chance(0.5):
        q = s.op("Mul", q, factor, shape=q.shape)
    turned = s.transpose(k, *range(k.rank - 2), k.rank - 1, k.rank - 2)
    scores = s.op("MatMul", q, turned, shape=(*q.shape[:-2], t, k.shape[-2]))
    return s.op("Mul", scores, factor, shape=scores.shape) if s.chance(0.5) else scores


def _masked(s: Sketch, scores: Value) -> Value:
    """With a table per head or for all heads added, with what is to come masked out, or as they are."""
    _, h, t, other = scores.shape
    match s.rng.choice(["plain", "plain", "table", "causal", "where"]):
        case "table":
            shape = s.rng.choice([(h, t, other), (1, h, t, other), (t, other), (1, 1, t, other)])
            return add(s, scores, s.weight(*shape))
        case "causal":
            later = np.triu(np.full((t, other), -1e4, np.float32), 1)
            return add(s, scores, s.constant(later[None, None]))
        case "where":
            seen = s.constant(np.tril(np.ones((1, 1, t, other), bool)))
            return s.op("Where", seen, scores, s.constant(np.asarray(-1e4, np.float32)), shape=scores.shape)
        case _:
            return scores
