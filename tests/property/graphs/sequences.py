"""Blocks over sequences [N, T, D]."""

from __future__ import annotations

import numpy as np

from tests.property.graphs.attention import attention, linear
from tests.property.graphs.norms import sequence_norm
from tests.property.graphs.pointwise import activate, add, gate, scale
from tests.property.graphs.sketch import Sketch, Value

HIDDEN = (5, 6, 8, 12)


def started(s: Sketch, x: Value) -> Value:
    """Perhaps a class token in front, as a stored vector spread over the batch; perhaps positions."""
    n, t, d = x.shape
    if s.chance(0.3):
        token = s.weight(1, 1, d)
        if s.dynamic:
            batch = s.op("Slice", s.op("Shape", x, shape=(3,)), s.ints(0), s.ints(1), shape=(1,))
            target = s.op("Concat", batch, s.ints(1, d), shape=(3,), axis=0)
            target = target if s.chance(0.5) else s.op("Concat", batch, s.ints(1, 1), shape=(3,), axis=0)
        else:
            target = s.ints(n, 1, d if s.chance(0.5) else 1)
        x = s.concat([s.op("Expand", token, target, shape=(n, 1, d)), x], 1)
        t += 1
    return add(s, x, s.weight(1, t, d)) if s.chance(0.5) else x


def attending(s: Sketch, x: Value) -> Value:
    """A transformer's first half: norm before, after or not at all; the shortcut."""
    if s.chance(0.5):
        return add(s, x, attention(s, sequence_norm(s, x) if s.chance(0.6) else x))
    y = add(s, x, attention(s, x))
    return sequence_norm(s, y) if s.chance(0.6) else y


def feed_forward(s: Sketch, x: Value) -> Value:
    y = linear(s, activate(s, linear(s, x, s.rng.choice(HIDDEN))), x.shape[2])
    return add(s, x, scale(s, y, 2) if s.chance(0.2) else y)


def gated_feed_forward(s: Sketch, x: Value) -> Value:
    """SwiGLU and its like: gate and values from two matrices, or from one that is cut in two."""
    hidden = s.rng.choice(HIDDEN)
    if s.chance(0.5):
        values, gates = linear(s, x, hidden), linear(s, x, hidden)
    else:
        values, gates = s.split(linear(s, x, 2 * hidden), 2, [hidden, hidden])
    return add(s, x, linear(s, gate(s, values, gates), x.shape[2]))


def projected(s: Sketch, x: Value) -> Value:
    """Another width, without a shortcut."""
    return activate(s, linear(s, x, s.rng.choice(HIDDEN)))


def by_gemm(s: Sketch, x: Value) -> Value:
    """All tokens as rows, through Gemm, and back."""
    n, t, d = x.shape
    out = s.rng.choice(HIDDEN)
    rows = s.op("Reshape", x, s.ints(-1, d), shape=(n * t, d))
    flip = s.chance(0.5)
    weight = s.weight(out, d, fan=d) if flip else s.weight(d, out, fan=d)
    y = s.op("Gemm", rows, weight, s.vector(out), shape=(n * t, out), transB=int(flip))
    return activate(s, s.op("Reshape", y, s.ints(-1, t, out), shape=(n, t, out)))


def mixing_tokens(s: Sketch, x: Value) -> Value:
    """MLP-Mixer's: across positions, for every channel."""
    n, t, d = x.shape
    y = s.transpose(x, 0, 2, 1)
    hidden = s.rng.choice(HIDDEN)
    y = s.op("MatMul", y, s.weight(t, hidden, fan=t), shape=(n, d, hidden))
    y = s.op("Tanh", add(s, y, s.vector(hidden)), shape=y.shape)
    y = s.op("MatMul", y, s.weight(hidden, t, fan=hidden), shape=(n, d, t))
    return add(s, x, s.transpose(y, 0, 2, 1))


def convolved(s: Sketch, x: Value) -> Value:
    """A convolution along the positions, depthwise or full."""
    n, t, d = x.shape
    y = s.transpose(x, 0, 2, 1)
    groups = d if s.chance(0.5) else 1
    weight = s.weight(d, d // groups, 3, fan=3 * d // groups)
    y = s.op("Conv", y, weight, s.vector(d), shape=(n, d, t), kernel_shape=[3], pads=[1, 1], group=groups)
    return add(s, x, s.transpose(s.op("Tanh", y, shape=y.shape), 0, 2, 1))


def joined(s: Sketch, x: Value) -> Value:
    """Features beside each other, cut again at another place."""
    y = activate(s, linear(s, x, s.rng.choice(HIDDEN)))
    both = s.concat([x, y], 2)
    cut = s.rng.randint(1, both.shape[2] - 1)
    left, right = s.split(both, 2, [cut, both.shape[2] - cut])
    return add(s, linear(s, left, 6), linear(s, right, 6))


def einsum(s: Sketch, x: Value) -> Value:
    """A projection to heads and back, as Einsum spells it."""
    n, t, d = x.shape
    h, size = s.rng.choice([2, 3]), s.rng.choice([2, 3])
    y = s.op("Einsum", x, s.weight(d, h, size, fan=d), shape=(n, t, h, size), equation="btd,dhe->bthe")
    y = s.op("Sigmoid", y, shape=y.shape)
    y = s.op("Einsum", y, s.weight(h, size, d, fan=h * size), shape=(n, t, d), equation="bthe,hed->btd")
    return add(s, x, y)


def recurrent(s: Sketch, x: Value) -> Value:
    """An LSTM or GRU, in one or both directions, its directions side by side afterwards."""
    n, t, d = x.shape
    both, size = s.rng.choice([1, 2]), s.rng.choice([3, 4])
    op, gates = s.rng.choice([("LSTM", 4), ("GRU", 3)])
    first = s.transpose(x, 1, 0, 2)
    w, r = s.weight(both, gates * size, d, fan=d), s.weight(both, gates * size, size, fan=size)
    bias = s.constant((0.2 * s.numbers.normal(size=(both, 2 * gates * size))).astype(np.float32), "b")
    y = s.op(op, first, w, r, bias, shape=(t, both, n, size), hidden_size=size,
             direction="bidirectional" if both == 2 else "forward")  # fmt: skip
    if both == 1:
        y = s.op("Squeeze", y, s.ints(1), shape=(t, n, size))
        return s.transpose(y, 1, 0, 2)
    y = s.transpose(y, 2, 0, 1, 3)
    return s.reshape(y, n, t, both * size)


BLOCKS = (
    attending, attending, feed_forward, gated_feed_forward, projected, by_gemm, mixing_tokens, convolved, joined,
    einsum, recurrent,
)  # fmt: skip
