"""Normalisation put back while a model is trained, where an exporter folded it into convolutions.

A kernel that BatchNormalization was folded into cannot be trained at the rates of the network that it came from: what
kept the scale of every channel in place is gone, and a step that is large for one channel is small for another. So
each convolution with a bias gets a BatchNormalization of its own for the time of training (Ioffe and Szegedy, "Batch
Normalization", ICML 2015, arXiv:1502.03167), whose statistics are measured on samples and whose scale is set so that
the function stays what it is, to the bit. Weights are read through their fold (Place.get), so that whoever averages,
judges or writes them sees kernels and biases as the file has them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from onnxprune.recover.masks import original
from onnxprune.recover.module import OnnxModule
from onnxprune.recover.naming import Place
from onnxprune.recover.step import Step

_EPSILON = 1e-5
_MOMENTUM = 0.1
_LEAST_SAMPLES = 8  # of a batch; the statistics of fewer say little of the data
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "FusedConv", "FusedMatMul")
_NORMALISED = "Normalization"


class Norm(nn.Module):
    """The normalisation of one convolution, of its output without bias.

    `scale` [M] is trained, and so is the shift, which is the convolution's own bias but for the constant `centre`;
    `mean` and `var` are running statistics, by which training normalises, too, once they are `fixed`.
    """

    def __init__(self, mean: Tensor, var: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.fixed = False
        self.scale = nn.Parameter(scale)
        self.register_buffer("mean", mean)
        self.register_buffer("var", var)
        self.register_buffer("centre", mean * self.ratio().detach())

    mean: Tensor
    var: Tensor
    centre: Tensor

    def ratio(self) -> Tensor:
        """What a kernel is multiplied by when the normalisation is folded into it, [M]."""
        return self.scale / torch.sqrt(self.var + _EPSILON)

    def forward(self, y: Tensor, bias: Tensor) -> Tensor:
        """Normalise by the statistics of the batch, and move the running ones."""
        return F.batch_norm(y, self.mean, self.var, self.scale, bias + self.centre, True, _MOMENTUM, _EPSILON)


class FoldedKernel(nn.Module):
    """The parametrisation of a kernel [M, ...]: the trained one times the fold's ratio."""

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.norm.ratio().reshape(-1, *(1,) * (weight.ndim - 1))


class FoldedBias(nn.Module):
    """The parametrisation of a bias [M]: what is left of it once the mean is folded in."""

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, bias: Tensor) -> Tensor:
        return bias + (self.norm.centre - self.norm.mean * self.norm.ratio())


class Renormalised:
    """A convolution's torch form in training mode: of the kernel before its fold, then normalised."""

    def __init__(self, step: Step, norm: Norm, kernel: Place, bias: Place) -> None:
        self.plain, self.norm, self.kernel, self.bias = step.function, norm, kernel, bias

    def __call__(self, step: Step, x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        if self.norm.fixed or not step.training:
            found: Tensor = self.plain(step, x, kernel, bias)
            return found
        return self.norm(self.plain(step, x, _before_fold(self.kernel), None), original(self.bias))


def put_back(module: OnnxModule, batches: Iterable[Mapping[str, Any]]) -> list[str]:
    """Normalise every convolution that can have it, by statistics of the `batches` of feeds; gives the kernels' names.

    Those can that have a trained float kernel and bias of their own, more than one place in each output channel, no
    normalisation behind them already, and another layer between them and the outputs (a head gives numbers whose scale
    matters). A model that is normalised by layers or groups has had no other normalisation to lose. Batches of few
    samples have no statistics: none is put back. The module gives what it gave, to the bit.
    """
    moments = _measured(module, _candidates(module), batches)
    for step, (mean, var) in moments.items():
        _install(module, step, mean, var)
    return [step.inputs[1] for step in moments]


def fix_statistics(module: OnnxModule) -> None:
    """Normalise by the statistics as they are now, without the noise of batches."""
    for norm in module.modules():
        if isinstance(norm, Norm):
            norm.fixed = True


def _install(module: OnnxModule, step: Step, mean: Tensor, var: Tensor) -> None:
    """`mean` and `var` are those of the output without bias.

    The kernel is scaled to a norm near one per output channel, so that one learning rate suits all; by powers of two,
    which round nothing.
    """
    kernel, bias = (module.places[name] for name in step.inputs[1:3])
    with torch.no_grad():
        trained = original(kernel)
        norms = trained.flatten(1).norm(dim=1)
        power = torch.where(norms > 0, torch.exp2(-torch.log2(norms.clamp_min(1e-12)).round()), torch.ones_like(norms))
        norm = Norm(mean * power, var * power.square(), torch.sqrt(var * power.square() + _EPSILON) / power)
        parametrize.register_parametrization(kernel.module, kernel.attribute, FoldedKernel(norm))
        parametrize.register_parametrization(bias.module, bias.attribute, FoldedBias(norm))
        original(kernel).mul_(power.reshape(-1, *(1,) * (trained.ndim - 1)))
    step.function = Renormalised(step, norm, kernel, bias)


def _before_fold(place: Place) -> Tensor:
    """A kernel through its masks alone."""
    weight = original(place)
    for transform in place.module.parametrizations[place.attribute]:  # type: ignore[index]
        if not isinstance(transform, FoldedKernel):
            weight = transform(weight)
    return weight


# -- which ---------------------------------------------------------------------------------------------------------


def is_convolutional(module: OnnxModule) -> bool:
    """Whether it has convolutions, and nothing that is normalised otherwise than by batches (as transformers are)."""
    ops = {step.op for step in module.program.main}
    return "Conv" in ops and not any(op.endswith(_NORMALISED) and op != "BatchNormalization" for op in ops)


def _candidates(module: OnnxModule) -> list[Step]:
    if not is_convolutional(module):
        return []
    bodies = [step for _, steps in module.program.bodies.values() for step in steps]
    reads = Counter(name for step in [*module.program.main, *bodies] for name in step.inputs)
    readers: dict[str, set[str]] = {}
    for step in module.program.main:
        for name in step.inputs:
            readers.setdefault(name, set()).add(step.op)
    heads = _heads(module)
    return [
        step for step in module.program.main
        if step.op == "Conv" and not step.node.domain and step.outputs[0] not in heads
        and len(step.inputs) == 3 and all(_is_own(module, name, reads) for name in step.inputs[1:])
        and not any(op.endswith(_NORMALISED) for op in readers.get(step.outputs[0], ()))
    ]  # fmt: skip


def _is_own(module: OnnxModule, name: str, reads: Counter[str]) -> bool:
    weight = module.weights.get(name)
    if weight is None or weight.is_quantised or reads[name] != 1:
        return False
    return module.places[name].get().requires_grad


def _heads(module: OnnxModule) -> set[str]:
    """Values that outputs follow from without another layer between."""
    makers = {name: step for step in module.program.main for name in step.outputs if name}
    found: set[str] = set()
    stack = list(module.output_names)
    while stack:
        name = stack.pop()
        if name in found:
            continue
        found.add(name)
        if name in makers and makers[name].op not in _PRODUCTS:
            stack += [value for value in makers[name].inputs if value]
    return found


# -- statistics ----------------------------------------------------------------------------------------------------


class _Moments:
    """A convolution's torch form that looks at what it gives."""

    def __init__(self, step: Step) -> None:
        self.plain = step.function
        self.count, self.batches, self.fits = 0, 0, True
        self.sums: Tensor | None = None

    def __call__(self, step: Step, x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        y: Tensor = self.plain(step, x, kernel, None)
        axes = [0, *range(2, y.ndim)]
        self.fits = self.fits and y.shape[0] >= _LEAST_SAMPLES and y.numel() > y.shape[0] * y.shape[1]
        exact = y.double()
        sums = torch.stack([exact.sum(axes), exact.square().sum(axes)])
        self.sums = sums if self.sums is None else self.sums + sums
        self.count += y.numel() // y.shape[1]
        return y + bias.reshape(-1, *(1,) * (y.ndim - 2))

    def mean_and_var(self, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        """None where there are no statistics to normalise by."""
        if self.sums is None or not self.fits:
            return None
        mean, square = self.sums / self.count
        return mean.to(dtype), (square - mean.square()).clamp_min(0).to(dtype)


@torch.no_grad()
def _measured(
    module: OnnxModule, steps: list[Step], batches: Iterable[Mapping[str, Any]]
) -> dict[Step, tuple[Tensor, Tensor]]:
    """Mean and variance [M] of what each step gives without its bias, of those for which that can be said."""
    if not steps:
        return {}
    watched = {step: _Moments(step) for step in steps}
    was_training = module.training
    module.eval()
    try:
        for step, moments in watched.items():
            step.function = moments
        for feeds in batches:
            module.run(feeds, module.output_names)
    finally:
        for step, moments in watched.items():
            step.function = moments.plain
        module.train(was_training)
    found = {step: moments.mean_and_var(module.places[step.inputs[1]].get().dtype) for step, moments in watched.items()}
    return {step: both for step, both in found.items() if both is not None}
