"""Layer by layer through the network, each with the inputs that it really gets from the sparse layers before it.

The methods that look at data run here. A method that aims at the dense model's outputs sees in its second moments what
the layers before have done, and makes up for it; where a shortcut is added behind a layer, also for what that has lost.
Means are taken out where the layer has a bias of its own, which then takes what the means leave.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.edit.stored import put_array
from onnxprune.graph.model import Model
from onnxprune.graph.view import GraphView
from onnxprune.runtime.following import Aim, Following, Moments, follow
from onnxprune.runtime.walking import Walking, can_walk
from onnxprune.sparsity.choosing import Method, Problem, repaired
from onnxprune.sparsity.fit import least_squares
from onnxprune.sparsity.layers import Layer, depths
from onnxprune.sparsity.stored import put_operand
from onnxprune.sparsity.wanted import Target

log = logging.getLogger(__name__)

DAMPING = 0.01
"""Of the mean of the second moments' diagonal, added to it and drawn towards the dense weights."""

_TINY = 1e-30  # where nothing but zeros flows

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Fitted:
    """A layer's share of zeros and, of its outputs' variance, the share that is not met, before and after."""

    name: str
    title: str
    zeros: float
    error: float
    rows: int


def sparsify_layers(
    coupling: Coupling,
    layers: Sequence[Layer],
    targets: Mapping[str, Target],
    method: Method,
    how: Following,
    *,
    repair: bool,
    damping: float = DAMPING,
    progress: Progress | None = None,
) -> tuple[Model, list[Fitted]]:
    """The model with the layers whose weight is in `targets` made sparse by `method`, in order of their stages.

    With `repair` all weights that stay, those of layers without a target too, are fitted to the dense outputs under
    their mask. Raises what `Following` raises.
    """
    model = coupling.view.model.copy()
    view = GraphView(model, coupling.view)
    first = min((layer.stage for layer in layers if layer.weight.name in targets), default=0)
    due = [
        layer for layer in layers
        if layer.weight.name in targets or (repair and layer.stage > first)
    ]  # fmt: skip
    found: list[Fitted] = []
    measure = _measure(coupling, view, layers, how)
    for batch in _batches(due):
        moments = measure(batch[0].stage, [layer.aim for layer in batch])
        for layer, mine in zip(batch, moments, strict=True):
            if not mine.rows:
                continue
            found.append(_fit(coupling, view, layer, targets.get(layer.weight.name), mine, method, repair, damping))
            log.info("%s: %.1f %% of the output's variance is not met", found[-1].title, 100 * found[-1].error)
        if progress is not None:
            progress(len(found), len(due))
    return model, found


def _measure(
    coupling: Coupling, view: GraphView, layers: Sequence[Layer], how: Following
) -> Callable[[int, Sequence[Aim]], list[Moments]]:
    """How moments are had: by a walk through both models, or where they cannot be cut by running them each time."""
    shapes, dtypes = coupling.shapes.shape, coupling.shapes.dtype
    if can_walk(coupling.view, dtypes):
        depth = depths(coupling.view, {layer.consumer.node for layer in layers})
        return Walking(how, coupling.view, view, depth, shapes)
    return lambda stage, aims: follow(how, coupling.view, view, aims, shapes, dtypes)


def _batches(layers: Sequence[Layer]) -> Iterator[list[Layer]]:
    for _, batch in groupby(layers, key=lambda layer: layer.stage):
        yield list(batch)


def _fit(
    coupling: Coupling, view: GraphView, layer: Layer, target: Target | None, moments: Moments, method: Method,
    repair: bool, damping: float,
) -> Fitted:  # fmt: skip
    stored = coupling.view.model.array(coupling.view.constants[layer.weight.name])
    operand = layer.use.operand.arrange([stored.astype(np.float64)])
    dense = layer.consumer.matrix(operand)
    sums = _Sums.of(layer, moments)
    aims = method.aims or repair
    taps = layer.consumer.window.taps if layer.consumer.window else 1
    fresh, kept = np.empty(dense.shape), 0
    for block in range(len(dense)):
        w = dense[block]
        h, c = sums.damped(block, w, damping, centred=aims and sums.centred)
        if target is None:
            fresh[block] = least_squares(h, c, np.ones(w.shape, bool))
            kept += w.size
            continue
        if method.aims:
            mask, fresh[block] = method.choose(Problem(target.pattern, target.share, taps, w, h, c))
        else:
            plain, _ = sums.damped(block, w, damping, centred=False)
            mask, fresh[block] = method.choose(Problem(target.pattern, target.share, taps, w, plain, plain @ w))
            if repair:
                fresh[block] = repaired(Problem(target.pattern, target.share, taps, w, h, c), mask)
        kept += int(mask.sum())
    values = layer.consumer.from_matrix(fresh, np.empty(operand.shape, np.float64))
    _put(view, put_operand(layer.use, values, {layer.weight.name: stored}))
    if aims and sums.centred and layer.bias is not None:
        fitted = sums.bias(fresh).reshape(-1)
        kind = coupling.view.model.array(coupling.view.constants[layer.bias.name])
        _put(view, {layer.bias.name: fitted.reshape(kind.shape).astype(kind.dtype)})
    return Fitted(layer.weight.name, layer.consumer.title, 1 - kept / dense.size, sums.error(fresh), moments.rows)


def _put(view: GraphView, arrays: Mapping[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        put_array(view, name, array)


@dataclass(frozen=True)
class _Sums:
    """Moments of a layer in units of its product: the gain divided out, a bias that cannot change taken off."""

    second: np.ndarray
    mean: np.ndarray
    cross: np.ndarray
    target_mean: np.ndarray
    target_second: np.ndarray
    gain: float
    centred: bool

    @classmethod
    def of(cls, layer: Layer, moments: Moments) -> _Sums:
        gain, bias = layer.consumer.gain, layer.bias
        centred = bias is not None and bias.is_own and bias.values.size == moments.target_mean.size
        cross, mean, second = moments.cross, moments.target_mean, moments.target_second
        if bias is not None and not centred:
            offset = np.broadcast_to(bias.values, mean.size).reshape(mean.shape)
            second = second - 2 * offset * mean + offset**2
            cross = cross - moments.mean[:, :, None] * offset[:, None, :]
            mean = mean - offset
        return cls(moments.second, moments.mean, cross / gain, mean, second, gain, centred)

    def damped(self, block: int, w: np.ndarray, damping: float, *, centred: bool) -> tuple[np.ndarray, np.ndarray]:
        """H and C of a block, around the means if `centred`, with the diagonal raised and C drawn towards `w`."""
        h, c = self.second[block], self.cross[block]
        if centred:
            h = h - np.outer(self.mean[block], self.mean[block])
            c = c - np.outer(self.mean[block], self.target_mean[block] / self.gain)
        raised = damping * max(float(np.diag(h).mean()), _TINY)
        return h + raised * np.eye(len(h)), c + raised * w

    def bias(self, w: np.ndarray) -> np.ndarray:
        """What the means leave, [groups, R]."""
        return np.asarray(self.target_mean - self.gain * np.einsum("gd,gdr->gr", self.mean, w))

    def error(self, w: np.ndarray) -> float:
        """The share of the targets' variance that is not met; the best bias is counted in where there is one."""
        variance = self.target_second - self.target_mean**2
        h, c, whole = self.second, self.cross, self.target_second
        if self.centred:
            h = h - self.mean[:, :, None] * self.mean[:, None, :]
            c = c - self.mean[:, :, None] * self.target_mean[:, None, :] / self.gain
            whole = variance
        left = whole.sum() + self.gain**2 * (np.einsum("gdr,gde,ger->", w, h, w, optimize=True) - 2 * (c * w).sum())
        return float(max(left, 0) / max(float(variance.sum()), _TINY))
