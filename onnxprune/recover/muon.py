"""Orthogonalised momentum: every direction that a weight's gradient has gets the same length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_POLYNOMIAL = (3.4445, -4.7750, 2.0315)  # of Newton and Schulz, tuned to bring singular values near one in few steps
_ROUNDS = 5
_BETA2, _EPSILON = 0.999, 1e-8


class Muon(torch.optim.Optimizer):
    """Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024, for weights of two axes and more;
    AdamW for vectors, whose rate is that of the matrices times `vectors`.

    Kernels [M, C, ...] count as matrices [M, C * ...]. A step is as long as the rate times the weight's norm, so that
    one rate serves weights of all scales (as in You et al., "Large Batch Training of Convolutional Networks", 2017,
    arXiv:1708.03888), those included that a normalisation was folded into.
    """

    def __init__(
        self, params: Any, lr: float, momentum: float = 0.9, weight_decay: float = 0.0, vectors: float = 0.1
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "vectors": vectors}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of all weights that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    move = self._matrix if weight.ndim > 1 else self._vector
                    move(weight, weight.grad, group)
        return loss

    def _matrix(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, momentum = self.state[weight], group["momentum"]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].mul_(momentum).add_(gradient)
        ahead = gradient + momentum * state["momentum"]  # Nesterov
        direction = orthogonal(ahead.flatten(1)).reshape(weight.shape)
        length = weight.norm() / direction.norm().clamp_min(_EPSILON)
        weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction * length, alpha=-group["lr"])

    def _vector(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, momentum = self.state[weight], group["momentum"]
        if not state:
            state.update(steps=0, momentum=torch.zeros_like(weight), square=torch.zeros_like(weight))
        state["steps"] += 1
        state["momentum"].lerp_(gradient, 1 - momentum)
        state["square"].lerp_(gradient.square(), 1 - _BETA2)
        first, second = 1 - momentum ** state["steps"], 1 - _BETA2 ** state["steps"]
        spread = (state["square"] / second).sqrt_().add_(_EPSILON)
        rate = group["lr"] * group["vectors"]
        weight.mul_(1 - rate * group["weight_decay"]).addcdiv_(state["momentum"], spread, value=-rate / first)


def orthogonal(matrix: Tensor) -> Tensor:
    """Nearly the nearest matrix whose singular values are all one: they come out between 0.7 and 1.2."""
    a, b, c = _POLYNOMIAL
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if is_tall else matrix
    x = x / x.norm().clamp_min(_EPSILON)
    for _ in range(_ROUNDS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if is_tall else x
