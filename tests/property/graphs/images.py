"""Blocks over images [N, C, H, W]."""

from __future__ import annotations

import numpy as np

from tests.property.graphs.norms import image_norm
from tests.property.graphs.pointwise import activate, add, gate, scale
from tests.property.graphs.sketch import Sketch, Value

WIDTHS = (4, 6, 8, 12)


def conv(s: Sketch, x: Value, out: int | None = None, *, kernel: int | None = None, groups: int = 1) -> Value:
    """A convolution that keeps the picture's size."""
    n, c, h, w = x.shape
    out = out or s.rng.choice(WIDTHS)
    k = kernel or s.rng.choice([1, 1, 3])
    weight = s.weight(out, c // groups, k, k, fan=c // groups * k * k)
    bias = s.vector(out) if s.chance(0.7) else None
    return s.op(
        "Conv", *([x, weight, bias] if bias else [x, weight]), shape=(n, out, h, w),
        kernel_shape=[k, k], pads=[k // 2] * 4, group=groups,
    )  # fmt: skip


def plain(s: Sketch, x: Value) -> Value:
    """Convolution, perhaps a norm, activation."""
    x = conv(s, x)
    if s.chance(0.4):
        x = image_norm(s, x)
    return activate(s, x)


def grouped(s: Sketch, x: Value) -> Value:
    """A grouped or depthwise convolution, with as many or more outputs."""
    c = x.shape[1]
    groups = c if s.chance(0.5) else s.divisor(c) or c
    return activate(s, conv(s, x, s.rng.choice([1, 1, 2]) * c, kernel=3, groups=groups))


def inverted(s: Sketch, x: Value) -> Value:
    """MobileNet's: expand, depthwise, project, and the shortcut."""
    c, wide = x.shape[1], s.rng.choice(WIDTHS) + 4
    y = activate(s, conv(s, x, wide, kernel=1))
    y = activate(s, conv(s, y, wide, kernel=3, groups=wide))
    if s.chance(0.4):
        y = squeeze_excite(s, y)
    return add(s, conv(s, y, c, kernel=1), x)


def strided(s: Sketch, x: Value) -> Value:
    """Down to half the size, or pooled."""
    n, c, h, w = x.shape
    if h % 2 or w % 2:
        return activate(s, x)
    half = (n, c, h // 2, w // 2)
    match s.rng.choice(["conv", "max", "average"]):
        case "conv":
            out = s.rng.choice(WIDTHS)
            weight = s.weight(out, c, 2, 2, fan=4 * c)
            return s.op(
                "Conv", x, weight, s.vector(out), shape=(n, out, h // 2, w // 2), kernel_shape=[2, 2], strides=[2, 2]
            )
        case "max":
            return s.op("MaxPool", x, shape=half, kernel_shape=[2, 2], strides=[2, 2])
        case _:
            return s.op("AveragePool", x, shape=half, kernel_shape=[2, 2], strides=[2, 2])


def upward(s: Sketch, x: Value) -> Value:
    """Twice the size: transposed convolution (grouped too), Resize, or pixel shuffle."""
    n, c, h, w = x.shape
    if h > 6:
        return x
    match s.rng.choice(["transposed", "resize", "shuffle", "shuffle by hand"]):
        case "transposed":
            groups = s.divisor(c) if s.chance(0.4) else 1
            groups = groups or 1
            out = groups * s.rng.choice([1, 2, 3])
            weight = s.weight(c, out // groups, 2, 2, fan=c // groups)
            return s.op("ConvTranspose", x, weight, s.vector(out), shape=(n, out, 2 * h, 2 * w), kernel_shape=[2, 2],
                        strides=[2, 2], group=groups)  # fmt: skip
        case "resize":
            scales = s.constant(np.asarray([1, 1, 2, 2], np.float32))
            return s.op("Resize", x, None, scales, shape=(n, c, 2 * h, 2 * w), mode="nearest",
                        coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
        case "shuffle":
            y = conv(s, x, 4 * s.rng.choice([2, 3]), kernel=1)
            mode = s.rng.choice(["DCR", "CRD"])
            return s.op("DepthToSpace", y, shape=(n, y.shape[1] // 4, 2 * h, 2 * w), blocksize=2, mode=mode)
        case _:
            y = conv(s, x, 4 * s.rng.choice([2, 3]), kernel=1)
            c = y.shape[1] // 4
            y = s.transpose(s.reshape(y, n, c, 2, 2, h, w), 0, 1, 4, 2, 5, 3)
            return s.reshape(y, n, c, 2 * h, 2 * w)


def squeeze_excite(s: Sketch, x: Value) -> Value:
    n, c, _, _ = x.shape
    pooled = s.op("GlobalAveragePool", x, shape=(n, c, 1, 1)) if s.chance(0.5) else s.reduce("ReduceMean", x, [2, 3])
    middle = s.rng.choice([2, 3, 4])
    small = s.op("LeakyRelu", conv(s, pooled, middle, kernel=1), shape=(n, middle, 1, 1))
    return gate(s, x, conv(s, small, c, kernel=1))


def residual(s: Sketch, x: Value) -> Value:
    """ResNet's block: perhaps with a projection, or a shortcut that is cut down and padded up with zeros."""
    n, c, h, w = x.shape
    y = activate(s, conv(s, x))
    if s.chance(0.4):
        y = image_norm(s, y)
    match s.rng.choice(["same", "same", "projection", "padded"]):
        case "same":
            return activate(s, add(s, conv(s, y, c), x))
        case "projection":
            out = s.rng.choice(WIDTHS)
            return add(s, conv(s, y, out), conv(s, x, out, kernel=1))
        case _:
            more = s.rng.choice([1, 2, 4])
            zeros = s.op("Pad", x, s.ints(0, more, 0, 0, 0, more, 0, 0), shape=(n, c + 2 * more, h, w), mode="constant")
            return add(s, conv(s, y, c + 2 * more), zeros)


def tied(s: Sketch, x: Value) -> Value:
    """One convolution, used twice in a row."""
    n, c, h, w = x.shape
    weight, bias = s.weight(c, c, 3, 3, fan=9 * c), s.vector(c)
    for _ in range(2):
        y = s.op("Conv", x, weight, bias, shape=(n, c, h, w), kernel_shape=[3, 3], pads=[1] * 4)
        x = add(s, x, s.op("Tanh", y, shape=y.shape))
    return x


def scaled(s: Sketch, x: Value) -> Value:
    """ConvNeXt's: depthwise, two pointwise layers, a scale, the shortcut."""
    c = x.shape[1]
    y = conv(s, x, c, kernel=3, groups=c)
    if s.chance(0.5):
        y = image_norm(s, y)
    y = activate(s, conv(s, y, 2 * c, kernel=1))
    return add(s, x, scale(s, conv(s, y, c, kernel=1), 1))


BLOCKS = (
    plain, plain, grouped, grouped, inverted, strided, strided, upward, upward, residual, residual, tied, scaled,
)  # fmt: skip
