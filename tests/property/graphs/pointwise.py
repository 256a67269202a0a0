"""Activations and arithmetic with vectors."""

from __future__ import annotations

import numpy as np

from tests.property.graphs.sketch import Sketch, Value

FEW = 12  # positions; with fewer, a ReLU may be zero at all of them, and what it hides cannot be seen


def activate(s: Sketch, x: Value) -> Value:
    """One of the common activations, as an operator or spelled out."""
    many = np.prod(x.shape) / x.shape[1] >= FEW if x.rank == 4 else x.rank == 3 and x.shape[0] * x.shape[1] >= FEW
    kinds = [
        "leaky",
        "sigmoid",
        "tanh",
        "silu",
        "gelu",
        "elu",
        "softplus",
        *(["relu", "relu", "clip", "prelu"] if many else []),
    ]
    match s.rng.choice(kinds):
        case "leaky":
            return s.op("LeakyRelu", x, shape=x.shape, alpha=0.1)
        case "silu":
            return s.op("Mul", x, s.op("Sigmoid", x, shape=x.shape), shape=x.shape)
        case "gelu":
            return gelu(s, x)
        case "clip":
            low, high = (s.constant(np.asarray(v, np.float32)) for v in (-0.5, 6.0))
            return s.op("Clip", x, low, high, shape=x.shape)
        case "prelu":
            channels = x.shape[1] if x.rank == 4 else x.shape[-1]
            slope = s.vector(channels, 0.2, shaped=(channels, 1, 1) if x.rank == 4 else (channels,))
            return s.op("PRelu", x, slope, shape=x.shape)
        case kind:
            return s.op(kind.capitalize(), x, shape=x.shape)


def gelu(s: Sketch, x: Value) -> Value:
    """x / 2 (1 + erf(x / sqrt 2)), spelled out, or the operator that has it from opset 20 on."""
    if s.opset >= 20 and s.chance(0.5):
        return s.op("Gelu", x, shape=x.shape)
    root, one, half = (s.constant(np.asarray(v, np.float32)) for v in (2**0.5, 1.0, 0.5))
    erf = s.op("Erf", s.op("Div", x, root, shape=x.shape), shape=x.shape)
    return s.op("Mul", s.op("Mul", x, s.op("Add", erf, one, shape=x.shape), shape=x.shape), half, shape=x.shape)


def scale(s: Sketch, x: Value, axis: int) -> Value:
    """A layer scale: each channel times a number."""
    trailing = x.rank - 1 - axis
    weight = s.vector(x.shape[axis], 1.0, shaped=(x.shape[axis], *[1] * trailing))
    return s.op("Mul", *([x, weight] if s.chance(0.7) else [weight, x]), shape=x.shape)


def add(s: Sketch, a: Value, b: Value) -> Value:
    return s.op("Add", *([a, b] if s.chance(0.5) else [b, a]), shape=a.shape)


def gate(s: Sketch, x: Value, g: Value) -> Value:
    """x times a squashed g."""
    squashed = s.op(s.rng.choice(["Sigmoid", "Tanh", "Softplus"]), g, shape=g.shape)
    return s.op("Mul", x, squashed, shape=x.shape)
