"""Attention of images over windows, with a table of relative positions, as Swin has it."""

from __future__ import annotations

import numpy as np

from tests.property.graphs.attention import attention
from tests.property.graphs.pointwise import add
from tests.property.graphs.sketch import Sketch, Value

SIDE = 2


def windowed(s: Sketch, x: Value) -> Value:
    """[N, C, H, W]: perhaps rolled, cut into windows of SIDE x SIDE, attended to in each, and put together again."""
    n, c, h, w = x.shape
    if h % SIDE or w % SIDE:
        return x
    last = s.transpose(x, 0, 2, 3, 1)
    shift = s.chance(0.5)
    y = roll(s, last, 1) if shift else last
    rows, columns = h // SIDE, w // SIDE
    y = s.transpose(s.reshape(y, n, rows, SIDE, columns, SIDE, c), 0, 1, 3, 2, 4, 5)
    y = s.reshape(y, n * rows * columns, SIDE * SIDE, c)
    y = attention(s, y, relative if s.chance(0.7) else None)
    y = s.transpose(s.reshape(y, n, rows, columns, SIDE, SIDE, c), 0, 1, 3, 2, 4, 5)
    y = s.reshape(y, n, h, w, c)
    return s.transpose(add(s, last, roll(s, y, h - 1) if shift else y), 0, 3, 1, 2)


def roll(s: Sketch, x: Value, by: int) -> Value:
    """Rows moved up cyclically."""
    h = x.shape[1]
    if by % h == 0:
        return x
    return s.concat([s.slice(x, 1, by % h, h), s.slice(x, 1, 0, by % h)], 1)


def relative(s: Sketch, heads: int) -> Value:
    """A row of the table for each pair of positions, to [1, heads, positions, positions]."""
    span, positions = 2 * SIDE - 1, SIDE * SIDE
    at = np.stack(np.meshgrid(range(SIDE), range(SIDE), indexing="ij")).reshape(2, -1)
    apart = at[:, :, None] - at[:, None, :] + SIDE - 1
    index = s.constant((apart[0] * span + apart[1]).reshape(-1).astype(np.int64))
    rows = s.op("Gather", s.weight(span * span, heads), index, shape=(positions**2, heads), axis=0)
    square = s.op("Reshape", rows, s.ints(positions, positions, -1), shape=(positions, positions, heads))
    first = s.transpose(square, 2, 0, 1)
    return s.op("Unsqueeze", first, s.ints(0), shape=(1, heads, positions, positions))


BLOCKS = (windowed,)
