"""Blocks that rearrange the channels of images: concatenations read at offsets, splits, slices, shuffles, gathers."""

from __future__ import annotations

import numpy as np

from tests.property.graphs.images import conv, squeeze_excite
from tests.property.graphs.norms import image_norm
from tests.property.graphs.pointwise import activate, add, gate
from tests.property.graphs.sketch import Sketch, Value


def dense(s: Sketch, x: Value) -> Value:
    """DenseNet's: each layer reads all that came before."""
    parts = [x]
    for _ in range(s.rng.choice([1, 2, 3])):
        joined = s.concat(parts, 1) if len(parts) > 1 else parts[0]
        parts.append(activate(s, conv(s, joined, s.rng.choice([2, 3, 4]))))
    return s.concat(parts, 1)


def branches(s: Sketch, x: Value) -> Value:
    """Inception's: branches side by side, one of them read again on its own."""
    parts = [activate(s, conv(s, x)) for _ in range(s.rng.choice([2, 3]))]
    joined = s.concat(parts, 1)
    return add(s, conv(s, joined, 6), conv(s, s.rng.choice(parts), 6))


def cross_stage(s: Sketch, x: Value) -> Value:
    """C2f: split in two, one half worked on, all of it concatenated."""
    half = s.rng.choice([2, 3, 4])
    parts = s.split(activate(s, conv(s, x, 2 * half, kernel=1)), 1, [half, half])
    for _ in range(s.rng.choice([1, 2])):
        y = activate(s, conv(s, parts[-1], half))
        parts.append(add(s, y, parts[-1]) if s.chance(0.6) else y)
    return conv(s, s.concat(parts, 1), kernel=1)


def partial(s: Sketch, x: Value) -> Value:
    """FasterNet's: a convolution over the first channels, the others pass."""
    c = x.shape[1]
    first = s.rng.randint(1, c - 1)
    worked, passed = s.split(x, 1, [first, c - first])
    return s.concat([activate(s, conv(s, worked, first)), passed], 1)


def shuffled(s: Sketch, x: Value) -> Value:
    """ShuffleNet's: a grouped convolution, and channels dealt out to the groups anew."""
    n, c, h, w = x.shape
    groups = s.divisor(c)
    if groups is None:
        return activate(s, x)
    y = conv(s, x, c, kernel=1, groups=groups) if s.chance(0.7) else x
    y = s.transpose(s.reshape(y, n, groups, c // groups, h, w), 0, 2, 1, 3, 4)
    return activate(s, conv(s, s.reshape(y, n, c, h, w), c, kernel=3, groups=c if s.chance(0.5) else 1))


def gathered(s: Sketch, x: Value) -> Value:
    """Channels by constant indices, some twice, some not at all."""
    c = x.shape[1]
    indices = [s.rng.randrange(-c, c) for _ in range(s.rng.randint(2, c + 1))]
    at = s.constant(np.asarray(indices, np.int64))
    return s.op("Gather", x, at, shape=(x.shape[0], len(indices), *x.shape[2:]), axis=1)


def gated(s: Sketch, x: Value) -> Value:
    """NAFNet's simple gate: twice the channels, one half times the other."""
    width = s.rng.choice([3, 4, 6])
    left, right = s.split(conv(s, x, 2 * width), 1, [width, width])
    if s.chance(0.5):
        return gate(s, left, right)
    return s.op("Mul", left, right, shape=left.shape)


def several_readers(s: Sketch, x: Value) -> Value:
    """Slices that overlap, each read by a layer of its own."""
    c = x.shape[1]
    cut = s.rng.randint(1, c - 1)
    a, b = s.slice(x, 1, 0, cut), s.slice(x, 1, max(0, cut - s.rng.choice([0, 0, 1])), c)
    return add(s, conv(s, a, 5), conv(s, b, 5))


def attended(s: Sketch, x: Value) -> Value:
    return activate(s, squeeze_excite(s, conv(s, x)))


def skipping(s: Sketch, x: Value) -> Value:
    """U-Net's: down, up again, and concatenated with what was before."""
    n, c, h, w = x.shape
    if h % 2 or w % 2:
        return dense(s, x)
    low = s.op("MaxPool", x, shape=(n, c, h // 2, w // 2), kernel_shape=[2, 2], strides=[2, 2])
    low = activate(s, conv(s, low))
    scales = s.constant(np.asarray([1, 1, 2, 2], np.float32))
    high = s.op("Resize", low, None, scales, shape=(n, low.shape[1], h, w), mode="nearest",
                coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
    return activate(s, conv(s, s.concat([high, x] if s.chance(0.5) else [x, high], 1)))


def pooled_beside(s: Sketch, x: Value) -> Value:
    """ASPP's: the mean of the picture, spread over it again, beside a convolution."""
    n, c, h, w = x.shape
    mean = activate(s, conv(s, s.op("GlobalAveragePool", x, shape=(n, c, 1, 1)), 4, kernel=1))
    spread = s.op("Expand", mean, s.ints(1, 1, h, w), shape=(n, 4, h, w))
    return conv(s, s.concat([spread, activate(s, conv(s, x))], 1), kernel=1)


def merged(s: Sketch, x: Value) -> Value:
    """Swin's patch merging: every second row and column, four of them beside each other."""
    n, c, h, w = x.shape
    if h % 2 or w % 2:
        return partial(s, x)
    corners = []
    for top, left in ((0, 0), (1, 0), (0, 1), (1, 1)):
        starts, ends = s.ints(top, left), s.ints(h, w)
        corners.append(s.op("Slice", x, starts, ends, s.ints(2, 3), s.ints(2, 2), shape=(n, c, h // 2, w // 2)))
    joined = s.concat(corners, 1)
    return conv(s, image_norm(s, joined) if s.chance(0.5) else joined, kernel=1)


BLOCKS = (
    dense, branches, cross_stage, partial, shuffled, gathered, gated, several_readers, attended, skipping,
    pooled_beside, merged,
)  # fmt: skip
