"""Activations as numpy functions: what they give, and their slope there (ONNX: the operators of these names)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from onnxprune.graph.view import Node

Curve = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Float32 of any shape to the values and the slopes, of that shape."""


def curve_of(node: Node) -> Curve | None:
    """The function that a node applies to every element of its only input; None where it is none of those here."""
    if node.domain or len([name for name in node.inputs if name]) != 1 or node.op not in _CURVES:
        return None
    function, defaults = _CURVES[node.op]
    given = {name: node.attrs.get(name, value) for name, value in defaults.items()}
    return partial(function, **given)


def _sigmoid(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y = 0.5 * (1 + np.tanh(0.5 * x))
    return y, y * (1 - y)


def _tanh(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y = np.tanh(x)
    return y, 1 - y * y


def _erf(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: off by 1.5e-7 at most."""
    size = np.abs(x)
    t = 1 / (1 + 0.3275911 * size)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    bell = np.exp(-x * x)
    return np.copysign(1 - series * bell, x), 2 / math.sqrt(math.pi) * bell


def _softplus(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.logaddexp(0, x), _sigmoid(x)[0]


def _hard_sigmoid(x: np.ndarray, alpha: float, beta: float) -> tuple[np.ndarray, np.ndarray]:
    y = alpha * x + beta
    return np.clip(y, 0, 1), alpha * ((y > 0) & (y < 1)).astype(np.float32)


def _leaky_relu(x: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    slope = np.where(x < 0, np.float32(alpha), np.float32(1))
    return x * slope, slope


def _elu(x: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    below = alpha * np.expm1(np.minimum(x, 0))
    return np.where(x < 0, below, x), np.where(x < 0, below + alpha, 1)


def _times(x: np.ndarray, gate: Curve) -> tuple[np.ndarray, np.ndarray]:
    """x times a function of it."""
    y, slope = gate(x)
    return x * y, y + x * slope


def _mish_gate(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inner, slope = _softplus(x)
    y, outer = _tanh(inner)
    return y, outer * slope


def _gelu(x: np.ndarray, approximate: Any) -> tuple[np.ndarray, np.ndarray]:
    def share(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if approximate in ("tanh", b"tanh"):
            scale = math.sqrt(2 / math.pi)
            y, slope = _tanh(scale * (x + 0.044715 * x**3))
            return 0.5 * (1 + y), 0.5 * slope * scale * (1 + 3 * 0.044715 * x * x)
        y, slope = _erf(x / math.sqrt(2))
        return 0.5 * (1 + y), 0.5 / math.sqrt(2) * slope

    return _times(x, share)


_HARD = partial(_hard_sigmoid, alpha=1 / 6, beta=0.5)

_CURVES: Mapping[str, tuple[Callable[..., tuple[np.ndarray, np.ndarray]], dict[str, Any]]] = {
    "Sigmoid": (_sigmoid, {}),
    "Tanh": (_tanh, {}),
    "Erf": (_erf, {}),
    "Softplus": (_softplus, {}),
    "HardSigmoid": (_hard_sigmoid, {"alpha": 0.2, "beta": 0.5}),
    "HardSwish": (partial(_times, gate=_HARD), {}),
    "LeakyRelu": (_leaky_relu, {"alpha": 0.01}),
    "Elu": (_elu, {"alpha": 1.0}),
    "Mish": (partial(_times, gate=_mish_gate), {}),
    "Gelu": (_gelu, {"approximate": "none"}),
}
