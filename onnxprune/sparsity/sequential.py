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
from onnxprune.runtime.following import Aim, Followed, Following, follow
from onnxprune.runtime.walking import Walking, can_walk
from onnxprune.sparsity.choosing import Method, Problem, repaired, revised
from onnxprune.sparsity.cut import ROUNDS, freed
from onnxprune.sparsity.fit import least_squares
from onnxprune.sparsity.layers import Layer, depths
from onnxprune.sparsity.stored import put_operand
from onnxprune.sparsity.sums import DEFAULT, Sums, best_damping
from onnxprune.sparsity.wanted import Target

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Fitted:
    """A layer's share of zeros, of its targets' variance the share that is not met, and the damping of its fit."""

    name: str
    title: str
    zeros: float
    error: float
    rows: int
    damping: float


def sparsify_layers(
    coupling: Coupling,
    layers: Sequence[Layer],
    targets: Mapping[str, Target],
    method: Method,
    how: Following,
    *,
    repair: bool,
    damping: float | None = None,
    progress: Progress | None = None,
) -> tuple[Model, list[Fitted]]:
    """The model with the layers whose weight is in `targets` made sparse by `method`, in order of their stages.

    With `repair` all weights that stay, those of layers without a target too, are fitted to the dense outputs under
    their mask. `damping` is a share of the mean of the second moments' diagonal that is added to it and drawn towards
    the dense weights; None for the one that serves samples best that a fit has not seen, layer by layer. Raises what
    `Following` raises.
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
) -> Callable[[int, Sequence[Aim]], list[Followed]]:
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
    coupling: Coupling, view: GraphView, layer: Layer, target: Target | None, moments: Followed, method: Method,
    repair: bool, damping: float | None,
) -> Fitted:  # fmt: skip
    stored = coupling.view.model.array(coupling.view.constants[layer.weight.name])
    operand = layer.use.operand.arrange([stored.astype(np.float64)])
    dense = layer.consumer.matrix(operand)
    sums = Sums.of(layer, moments)
    aims = method.aims or repair
    if damping is None:
        damping = best_damping(layer, moments, dense, _guess(layer, target, sums, dense)) if aims else DEFAULT
    masks, fresh = _chosen(layer, target, sums, dense, method, repair, damping)
    bounds = layer.aim.bounds
    if aims and bounds is not None and moments.kept is not None and (sums.centred or layer.bias is None):
        whole = sums
        for _ in range(ROUNDS):
            sums = freed(whole, bounds, moments.kept, fresh)
            for block, w in enumerate(dense):
                h, c = sums.damped(block, w, damping, centred=sums.centred)
                if target is not None and method.aims:
                    problem = Problem(target.pattern, target.share, _taps(layer), w, h, c)
                    masks[block] = revised(problem, masks[block], fresh[block])
                fresh[block] = least_squares(h, c, masks[block])
    values = layer.consumer.from_matrix(fresh, np.empty(operand.shape, np.float64))
    _put(view, put_operand(layer.use, values, {layer.weight.name: stored}))
    if aims and sums.centred and layer.bias is not None:
        fitted = sums.bias(fresh).reshape(-1)
        kind = coupling.view.model.array(coupling.view.constants[layer.bias.name])
        _put(view, {layer.bias.name: fitted.reshape(kind.shape).astype(kind.dtype)})
    zeros = 1 - float(masks.mean())
    return Fitted(layer.weight.name, layer.consumer.title, zeros, sums.error(fresh), moments.rows, damping)


def _guess(layer: Layer, target: Target | None, sums: Sums, dense: np.ndarray) -> np.ndarray | None:
    """Masks that are near enough to those that will be chosen to find a damping for; None without a target."""
    if target is None:
        return None
    masks = np.empty(dense.shape, bool)
    for block, w in enumerate(dense):
        h, c = sums.damped(block, w, DEFAULT, centred=sums.centred)
        problem = Problem(target.pattern, target.share, _taps(layer), w, h, c)
        masks[block] = problem.keep(np.abs(problem.goal) * np.sqrt(np.diag(h))[:, None])
    return masks


def _chosen(
    layer: Layer, target: Target | None, sums: Sums, dense: np.ndarray, method: Method, repair: bool, damping: float
) -> tuple[np.ndarray, np.ndarray]:
    """Masks and weights [groups, D, R] by the method, and by least squares under its mask if that is to be."""
    masks, fresh = np.ones(dense.shape, bool), np.empty(dense.shape)
    taps = _taps(layer)
    for block, w in enumerate(dense):
        h, c = sums.damped(block, w, damping, centred=(method.aims or repair) and sums.centred)
        if target is None:
            fresh[block] = least_squares(h, c, masks[block])
        elif method.aims:
            masks[block], fresh[block] = method.choose(Problem(target.pattern, target.share, taps, w, h, c))
        else:
            plain, _ = sums.damped(block, w, damping, centred=False)
            masks[block], fresh[block] = method.choose(Problem(target.pattern, target.share, taps, w, plain, plain @ w))
            if repair:
                fresh[block] = repaired(Problem(target.pattern, target.share, taps, w, h, c), masks[block])
    return masks, fresh


def _taps(layer: Layer) -> int:
    return layer.consumer.window.taps if layer.consumer.window else 1


def _put(view: GraphView, arrays: Mapping[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        put_array(view, name, array)
