"""Re-fit what is left of a model to the dense one, layer by layer in graph order.

Every layer is fitted on what it reads in the pruned model, where the layers before it are repaired already, and to
what it gives in the dense one, less what a shortcut adds to it in the pruned one: so later layers make up for what is
left of the errors of earlier ones.

    repaired = refit(coupling, removed, data)
    pruned = edit(with_weights(coupling, repaired.model), removed).model

He, Zhang, Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017, arXiv:1707.06168, fit layer by
layer to the dense outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.edit.apply import edit
from onnxprune.edit.prediction import Prediction
from onnxprune.edit.stored import Kept
from onnxprune.graph.model import Model
from onnxprune.graph.view import GraphView
from onnxprune.repair.fit import Fit, Moments, fit
from onnxprune.repair.places import Place, places
from onnxprune.repair.stored import put, put_back, with_weights
from onnxprune.runtime.consumers import Consumer, consumers_of
from onnxprune.runtime.data import Batch, Data
from onnxprune.runtime.moments import Named, RowProducts
from onnxprune.runtime.ort import RunOptions
from onnxprune.runtime.rows import Sampling, Tokens
from onnxprune.runtime.stream import stream

DENSE, PRUNED = "dense", "pruned"
HELD_BACK = 4  # one batch of so many is held back
Progress = Callable[[int, int], None]
"""Called with the layers done, and how many there are."""


@dataclass(frozen=True)
class Refit:
    """What was done to one layer: errors on samples held back, as shares of the variance of its dense output."""

    layer: str
    before: float
    after: float
    ridge: float | None


@dataclass(frozen=True)
class Repaired:
    """`model` is the dense model with other weights: cut by the same plan, it is the repaired one."""

    model: Model
    layers: tuple[Refit, ...]


def refit(
    coupling: Coupling,
    removed: np.ndarray,
    data: Data,
    *,
    positions: int | None = 256,
    seed: int = 0,
    mask: str | None = None,
    batch: int = 16,
    options: RunOptions | None = None,
    start: Model | None = None,
    progress: Progress | None = None,
) -> Repaired:
    """Re-fit every layer that has lost inputs, and every one behind such a layer.

    `removed` are the classes that go (Coupling.removed_classes). `start` is the dense model with the weights to start
    from, where they are not its own. For the rest see `calibrate`.
    """
    prediction = Prediction(coupling, removed)
    model = (start or coupling.view.model).copy()
    todo = _affected(coupling, prediction)
    if not todo:
        return Repaired(model, ())
    edited = edit(with_weights(coupling, model), removed)
    pruned = edited.model
    dense = coupling.view
    view, whole = GraphView(pruned, dense), GraphView(model, dense)
    done = []
    for number, place in enumerate(todo):
        if progress is not None:
            progress(number, len(todo))
        sums = _Sums(coupling, prediction, view, place, Sampling(positions, seed))
        stream(
            {DENSE: dense, PRUNED: view}, [sums], data,
            batch=batch, options=options, mask=mask, dtypes=coupling.shapes.dtype,
        )  # fmt: skip
        done.append(_improve(view, place, sums, whole, edited.kept))
    if progress is not None:
        progress(len(todo), len(todo))
    return Repaired(model, tuple(done))


def _affected(coupling: Coupling, prediction: Prediction) -> list[Place]:
    """Layers from the first one on that has lost inputs, but for those whose output nothing reads."""
    found = places(coupling, consumers_of(coupling))
    first = next((n for n, place in enumerate(found) if _has_lost(coupling, prediction, place)), len(found))
    return found[first:]


def _has_lost(coupling: Coupling, prediction: Prediction, place: Place) -> bool:
    source = place.consumer.source
    return prediction.length((source.tensor, -1, -1), source.axis, source.size) < source.size


class _Sums:
    """The moments of one layer, of the samples fitted to and of those held back; fed by `stream`."""

    def __init__(
        self, coupling: Coupling, prediction: Prediction, pruned: GraphView, place: Place, sampling: Sampling
    ) -> None:
        self.consumer = _in_pruned(prediction, pruned, place.rows)
        self._place, self._coupling = place, coupling
        slot = coupling.atoms.slot_at((place.output, -1, -1), place.axis)
        self._take = None if slot is None else coupling.kept_of_slot(slot, prediction.removed)
        self._dense: list[RowProducts] = []
        if place.pooled:
            target, minus, take = place.rows.source.tensor, None, None
            self._dense = [RowProducts(place.rows, sampling, model=DENSE) for _ in range(2)]
        else:
            self.consumer = replace(self.consumer, output=(place.output, place.axis))
            target, take = place.total or place.output, self._take
            minus = None if place.shortcut is None else (PRUNED, place.shortcut)
        self._parts = [
            RowProducts(self.consumer, sampling, model=PRUNED, target=(DENSE, target), minus=minus, take=take)
            for _ in range(2)
        ]

    @property
    def reads(self) -> list[tuple[str, str]]:
        """See Accumulator."""
        return [pair for part in (self._parts[0], *self._dense[:1]) for pair in part.reads]

    @property
    def nbytes(self) -> int:
        """See Accumulator."""
        return sum(part.nbytes for part in (*self._parts, *self._dense))

    def add(self, values: Named, batch: Batch, tokens: Tokens | None) -> None:
        """See Accumulator. One batch of HELD_BACK, the second and so on, goes to the samples held back."""
        which = int(batch.first // max(batch.size, 1) % HELD_BACK == 1)
        self._parts[which].add(values, batch, tokens)
        if self._dense:
            self._dense[which].add(values, batch, tokens)

    def moments(self) -> list[Moments]:
        """Of the samples fitted to, and of those held back."""
        found = [part.result() for part in self._parts]
        if self._dense:
            weight, bias = _dense_layer(self._coupling, self._place)
            for mine, theirs in zip(found, (part.result() for part in self._dense), strict=True):
                if "cross" not in mine:
                    continue
                target = theirs["mean"] @ weight
                square = np.einsum("dk,gde,ek->gk", weight, theirs["second"], weight, optimize=True)
                mine["cross"] = mine["cross"] @ weight + mine["mean"][:, :, None] * bias
                mine["target_second"] = square + 2 * target * bias + bias**2
                mine["target_mean"] = target + bias
                if self._take is not None:
                    for name in ("cross", "target_second", "target_mean"):
                        mine[name] = mine[name][..., self._take]
        return [Moments.of(mine) for mine in found if "cross" in mine]


def _dense_layer(coupling: Coupling, place: Place) -> tuple[np.ndarray, np.ndarray]:
    """A layer's matrix [D, K] and bias [K] in the dense model, all factors in them."""
    model, constants = coupling.view.model, coupling.view.constants
    weight = place.consumer.matrix(model.array(constants[place.weight]).astype(np.float64))[0] * place.consumer.gain
    if place.bias is None:
        return weight, np.zeros(weight.shape[1])
    return weight, model.array(constants[place.bias.name]).astype(np.float64).reshape(-1) * place.bias.factor


def _in_pruned(prediction: Prediction, pruned: GraphView, consumer: Consumer) -> Consumer:
    """The consumer as it is in the pruned model."""
    source = consumer.source
    size = prediction.length((source.tensor, -1, -1), source.axis, source.size)
    groups = consumer.groups
    if groups > 1:
        groups = int(pruned.nodes[consumer.node].attrs.get("group", 1))
    return replace(consumer, source=replace(source, size=size), groups=groups)


def _improve(
    pruned: GraphView,
    place: Place,
    sums: _Sums,
    whole: GraphView,
    kept: Mapping[str, Kept],
) -> Refit:
    """Fit one layer and put its weights into the pruned model, and into the dense one where they are kept."""
    moments = sums.moments()
    if len(moments) < 2:
        return Refit(place.consumer.title, float("nan"), float("nan"), None)
    stored = pruned.model.array(pruned.constants[place.weight])
    consumer, gain = sums.consumer, place.consumer.gain
    weight = consumer.matrix(stored.astype(np.float64)) * gain
    blocks, _, outputs = weight.shape
    bias = np.zeros((blocks, outputs))
    old = None
    if place.bias is not None:
        old = pruned.model.array(pruned.constants[place.bias.name])
        bias = old.astype(np.float64).reshape(blocks, outputs) * place.bias.factor
    found: Fit = fit(moments[0], moments[1], weight, bias, free_bias=place.bias is not None)
    if found.ridge is not None:
        fresh = consumer.from_matrix(found.weight / gain, stored)
        put(pruned, place.weight, fresh)
        put_back(whole, place.weight, fresh, kept.get(place.weight, {}))
        if place.bias is not None and old is not None:
            new = (found.bias / place.bias.factor).reshape(old.shape).astype(old.dtype)
            put(pruned, place.bias.name, new)
            put_back(whole, place.bias.name, new, kept.get(place.bias.name, {}))
    return Refit(place.consumer.title, found.before, found.after, found.ridge)
