"""LSTM, GRU and RNN, step by step; all gates' inputs of all steps are one product."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from onnxprune.recover.registry import op
from onnxprune.recover.step import Step

Activation = Callable[[Tensor], Tensor]
_PLAIN: dict[str, Activation] = {
    "sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu, "softsign": F.softsign, "softplus": F.softplus,
}  # fmt: skip
_DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
_COEFFICIENTS = {  # alpha and beta where the node gives none (ONNX RNN)
    "affine": (1.0, 0.0), "leakyrelu": (0.01, 0.0), "thresholdedrelu": (1.0, 0.0), "scaledtanh": (1.0, 1.0),
    "hardsigmoid": (0.2, 0.5), "elu": (1.0, 0.0),
}  # fmt: skip
Cell = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]


def _activation(name: str, alpha: float, beta: float) -> Activation:
    made: dict[str, Activation] = {
        "affine": lambda x: alpha * x + beta,
        "leakyrelu": lambda x: F.leaky_relu(x, alpha),
        "thresholdedrelu": lambda x: torch.where(x > alpha, x, torch.zeros_like(x)),
        "scaledtanh": lambda x: alpha * torch.tanh(beta * x),
        "hardsigmoid": lambda x: torch.clamp(alpha * x + beta, 0, 1),
        "elu": lambda x: F.elu(x, alpha),
    }
    return _PLAIN.get(name) or made[name]


def _kind(step: Step) -> str:
    return step.op.removeprefix("DynamicQuantize")


def _activations(step: Step, directions: int) -> list[list[Activation]]:
    """Those of each direction; coefficients are given in order, to the functions that take one."""
    names = [name.lower() for name in step.attr("activations") or _DEFAULTS[_kind(step)] * directions]
    alphas, betas = list(step.attr("activation_alpha") or []), list(step.attr("activation_beta") or [])
    found = []
    for name in names:
        alpha, beta = _COEFFICIENTS.get(name, (0.0, 0.0))
        if name in _COEFFICIENTS and alphas:
            alpha = alphas.pop(0)
        if name in ("affine", "scaledtanh", "hardsigmoid") and betas:
            beta = betas.pop(0)
        found.append(_activation(name, alpha, beta))
    each = len(_DEFAULTS[_kind(step)])
    return [found[k * each : (k + 1) * each] for k in range(directions)]


def _clipped(step: Step, x: Tensor) -> Tensor:
    limit = step.attr("clip", 0.0)
    return x.clamp(-limit, limit) if limit else x


def _run(
    step: Step, cell: Cell, x: Tensor, states: tuple[Tensor, ...], lengths: Tensor | None, backwards: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """All steps of one direction. x [T, B, gates]; beyond a sample's length its states stay and outputs are zero."""
    steps = x.shape[0]
    outputs: list[Any] = [None] * steps
    for t in reversed(range(steps)) if backwards else range(steps):
        new = cell(x[t], states)
        output = new[0]
        if lengths is not None:
            real = (t < lengths).unsqueeze(1)
            new = tuple(torch.where(real, n, s) for n, s in zip(new, states, strict=True))
            output = torch.where(real, output, torch.zeros_like(output))
        outputs[t], states = output, new
    return torch.stack(outputs), states


def _recur(
    step: Step, x: Tensor, w: Tensor, b: Tensor | None, lengths: Tensor | None, starts: tuple[Tensor | None, ...],
    cell_of: Callable[[int, list[Activation]], Cell], hidden: int, input_bias: Callable[[Tensor], Tensor],
) -> Any:  # fmt: skip
    """Both directions, and the layout that the node wants."""
    batch_first = bool(step.attr("layout", 0))
    if batch_first:
        x = x.transpose(0, 1)
        starts = tuple(None if s is None else s.transpose(0, 1) for s in starts)
    directions = w.shape[0]
    sequences, finals = [], []
    for d, functions in enumerate(_activations(step, directions)):
        states = tuple(x.new_zeros(x.shape[1], hidden) if s is None else s[d] for s in starts)
        bias = None if b is None else input_bias(b[d])
        gates = F.linear(x, w[d], bias)
        backwards = d == 1 or step.attr("direction", "forward") == "reverse"
        sequence, final = _run(step, cell_of(d, functions), gates, states, lengths, backwards)
        sequences.append(sequence)
        finals.append(final)
    y = torch.stack(sequences, 1)
    last = [torch.stack(values) for values in zip(*finals, strict=True)]
    if batch_first:
        y, last = y.permute(2, 0, 1, 3), [value.transpose(0, 1) for value in last]
    return y if step.single else (y, *last)[: len(step.outputs)]


@op("LSTM")
def lstm(
    step: Step, x: Tensor, w: Tensor, r: Tensor, b: Tensor | None = None, lengths: Tensor | None = None,
    h: Tensor | None = None, c: Tensor | None = None, p: Tensor | None = None,
) -> Any:  # fmt: skip
    """Gates in the order input, output, forget, cell; with peepholes p [D, 3 * hidden]."""
    hidden = r.shape[-1]

    def cell_of(d: int, functions: list[Activation]) -> Cell:
        gate, candidate, out = functions
        peeps = (None, None, None) if p is None else p[d].chunk(3)

        def peeped(z: Tensor, peep: Tensor | None, cell: Tensor) -> Tensor:
            return gate(_clipped(step, z if peep is None else z + peep * cell))

        def cell(gates: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            before, memory = states
            i, o, f, g = (gates + F.linear(before, r[d])).chunk(4, -1)
            i = peeped(i, peeps[0], memory)
            f = 1 - i if step.attr("input_forget", 0) else peeped(f, peeps[2], memory)
            memory = f * memory + i * candidate(_clipped(step, g))
            return peeped(o, peeps[1], memory) * out(memory), memory

        return cell

    return _recur(step, x, w, b, lengths, (h, c), cell_of, hidden, lambda v: v.chunk(2)[0] + v.chunk(2)[1])


@op("GRU")
def gru(
    step: Step, x: Tensor, w: Tensor, r: Tensor, b: Tensor | None = None, lengths: Tensor | None = None,
    h: Tensor | None = None,
) -> Any:  # fmt: skip
    """Gates in the order update, reset, hidden."""
    hidden = r.shape[-1]

    def cell_of(d: int, functions: list[Activation]) -> Cell:
        gate, candidate = functions
        bias = None if b is None else b[d].chunk(2)[1]
        late = None if bias is None else bias[2 * hidden :]

        def cell(gates: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            (before,) = states
            zr = F.linear(before, r[d][: 2 * hidden], None if bias is None else bias[: 2 * hidden])
            z, reset = gate(_clipped(step, gates[:, : 2 * hidden] + zr)).chunk(2, -1)
            if step.attr("linear_before_reset", 0):
                inner = reset * F.linear(before, r[d][2 * hidden :], late)
            else:
                inner = F.linear(reset * before, r[d][2 * hidden :], late)
            new = candidate(_clipped(step, gates[:, 2 * hidden :] + inner))
            return ((1 - z) * new + z * before,)

        return cell

    return _recur(step, x, w, b, lengths, (h,), cell_of, hidden, lambda v: v.chunk(2)[0])


@op("RNN")
def rnn(
    step: Step, x: Tensor, w: Tensor, r: Tensor, b: Tensor | None = None, lengths: Tensor | None = None,
    h: Tensor | None = None,
) -> Any:  # fmt: skip
    def cell_of(d: int, functions: list[Activation]) -> Cell:
        def cell(gates: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (functions[0](_clipped(step, gates + F.linear(states[0], r[d]))),)

        return cell

    return _recur(step, x, w, b, lengths, (h,), cell_of, r.shape[-1], lambda v: v.chunk(2)[0] + v.chunk(2)[1])
