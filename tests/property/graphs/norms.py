"""Normalisations: those whose statistics leave channels alone, and those that run over them."""

from __future__ import annotations

import numpy as np

from tests.property.graphs.sketch import Sketch, Value


def batch_norm(s: Sketch, x: Value) -> Value:
    """Over [N, C, ...], with stored statistics."""
    c = x.shape[1]
    return s.op(
        "BatchNormalization", x, s.vector(c, 1.0), s.vector(c), s.vector(c, 0.0), s.positive(c), shape=x.shape
    )  # fmt: skip


def instance_norm(s: Sketch, x: Value) -> Value:
    return s.op("InstanceNormalization", x, s.vector(x.shape[1], 1.0), s.vector(x.shape[1]), shape=x.shape)


def group_norm(s: Sketch, x: Value) -> Value:
    """As torch exports it: [N, G, all else] through InstanceNormalization, and back."""
    n, c, h, w = x.shape
    groups = s.divisor(c, least=1) or 1
    grouped = s.reshape(x, n, groups, c // groups * h * w)
    ones, zeros = (s.constant(np.full(groups, v, np.float32)) for v in (1.0, 0.0))
    normal = s.op("InstanceNormalization", grouped, ones, zeros, shape=grouped.shape)
    back = s.reshape(normal, n, c, h, w)
    scaled = s.op("Mul", back, s.vector(c, 1.0, shaped=(c, 1, 1)), shape=x.shape)
    return s.op("Add", scaled, s.vector(c, shaped=(c, 1, 1)), shape=x.shape)


def layer_norm(s: Sketch, x: Value) -> Value:
    """Over the last axis: the operator, or spelled out."""
    size = x.shape[-1]
    if s.opset >= 17 and s.chance(0.6):
        return s.op("LayerNormalization", x, s.vector(size, 1.0), s.vector(size), shape=x.shape, axis=-1)
    last = [x.rank - 1]
    centred = s.op("Sub", x, s.reduce("ReduceMean", x, last), shape=x.shape)
    two, tiny = (s.constant(np.asarray(v, np.float32)) for v in (2.0, 1e-3))
    squares = s.reduce("ReduceMean", s.op("Pow", centred, two, shape=x.shape), last)
    deviation = s.op("Sqrt", s.op("Add", squares, tiny, shape=squares.shape), shape=squares.shape)
    normal = s.op("Div", centred, deviation, shape=x.shape)
    scaled = s.op("Mul", normal, s.vector(size, 1.0), shape=x.shape)
    return s.op("Add", scaled, s.vector(size), shape=x.shape)


def rms_norm(s: Sketch, x: Value) -> Value:
    """Over the last axis, spelled out."""
    squares = s.reduce("ReduceMean", s.op("Mul", x, x, shape=x.shape), [x.rank - 1])
    tiny = s.constant(np.asarray(1e-3, np.float32))
    root = s.op("Sqrt", s.op("Add", squares, tiny, shape=squares.shape), shape=squares.shape)
    normal = s.op("Mul", x, s.op("Reciprocal", root, shape=root.shape), shape=x.shape)
    return s.op("Mul", normal, s.vector(x.shape[-1], 1.0), shape=x.shape)


def image_norm(s: Sketch, x: Value) -> Value:
    kinds = [batch_norm] * 5
    if x.shape[2] * x.shape[3] >= 4:
        kinds += [instance_norm, group_norm]
    return s.rng.choice([*kinds, channels_last_norm])(s, x)


def channels_last_norm(s: Sketch, x: Value) -> Value:
    """ConvNeXt's: to channels last, LayerNorm, and back."""
    return s.transpose(layer_norm(s, s.transpose(x, 0, 2, 3, 1)), 0, 3, 1, 2)


def sequence_norm(s: Sketch, x: Value) -> Value:
    return s.rng.choice([layer_norm, layer_norm, rms_norm])(s, x)
