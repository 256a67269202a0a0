"""Fit the layers of each stack together, once each has been fitted alone: what one alone cannot do, two may.

A layer fitted alone gives what it gave in the dense model, as well as its units can. Where units have gone between two
layers, the first one is better off giving something else: what the second can make most of (repair/newton.py). In
graph order, each stack reads what the stacks before it give by then.

Li et al., "BRECQ: Pushing the Limit of Post-Training Quantization by Block Reconstruction", ICLR 2021,
arXiv:2102.05426, fit blocks instead of layers when they quantise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.edit.prediction import Prediction
from onnxprune.graph.model import Model
from onnxprune.graph.view import GraphView
from onnxprune.repair.lowering import Lowering
from onnxprune.repair.newton import Layers, Maps, Together, Weights, fit_together
from onnxprune.repair.passes import DENSE, PRUNED, Pruned, is_held_back
from onnxprune.repair.places import places
from onnxprune.repair.stacks import Stack, stacks
from onnxprune.runtime.consumers import consumers_of
from onnxprune.runtime.data import Batch, Data
from onnxprune.runtime.ort import RunOptions
from onnxprune.runtime.rows import Named, Tokens
from onnxprune.runtime.stream import stream

log = logging.getLogger(__name__)

_PLACES = 1 << 16  # of a stack's output, over all samples: more are not worth their time
_WORK = 2 * 10**9  # multiply-accumulates of the samples' outputs: what bounds the time where a model is large
_ELEMENTS = 1 << 26  # of the maps that are held, over all layers and samples
_USUAL = 512  # samples: where more are given, places and work may grow as they do
_FEW, _FEWEST = 32, 8  # samples, whatever their places and work, and whatever they hold
_BATCHES = 8
_MOST_GAINED, _HALF_GAINED = 0.4, 4.0  # of a stack's error; rows for each weight of the dense model
Progress = Callable[[int, int], None]
"""Called with what is done, layers or stacks, and how many there are."""


@dataclass(frozen=True)
class Joined:
    """What was done to a stack of `layers`. Errors as of Refit, of what comes out behind its last layer."""

    title: str
    layers: int
    before: float
    after: float
    changed: bool


def stacks_left(coupling: Coupling, pruned: Pruned, first: int = 0) -> list[Stack]:
    """The stacks whose layers are in the pruned model, from that on which ends at the dense model's node `first`."""
    made = pruned.view.producer
    able = [place for place in places(coupling, consumers_of(coupling, every=True)) if place.output in made]
    return [stack for stack in stacks(coupling, able) if stack.places[-1].consumer.node >= first]


def fit_stacks(
    coupling: Coupling,
    pruned: Pruned,
    due: Sequence[Stack],
    data: Data,
    *,
    zeros: Collection[str] = (),
    mask: str | None = None,
    batch: int | None = None,
    options: RunOptions | None = None,
    progress: Progress | None = None,
) -> tuple[Joined, ...]:
    """Fit the stacks `due` of the pruned model, in order. Its weights change, and nothing else.

    Zeros of the stored weights named in `zeros` stay. An eighth of the batches only judges, and a stack that is no
    better there stays as it is. For `mask` and `batch` see `calibrate`; `progress` is called with the stacks done and
    all. Raises what `stream` raises.
    """
    found = []
    for number, stack in enumerate(due):
        if progress is not None:
            progress(number, len(due))
        repair = _StackRepair(coupling, pruned, stack, zeros)
        samples = repair.samples(data.samples)
        stream(
            {DENSE: coupling.view, PRUNED: pruned.view}, [repair], data.part(0, samples),
            batch=min(batch or samples, max(1, samples // _BATCHES)), options=options, mask=mask,
            dtypes=coupling.shapes.dtype,
        )  # fmt: skip
        found.append(repair.finish())
        log.debug("%s", found[-1])
    if progress is not None:
        progress(len(due), len(due))
    return tuple(found)


def fit_other_weights(
    coupling: Coupling, model: Model, data: Data, zeros: Collection[str], *,
    mask: str | None = None, batch: int | None = None, options: RunOptions | None = None,
    progress: Progress | None = None,
) -> tuple[Joined, ...]:  # fmt: skip
    """`fit_stacks` for a model that has the units of the coupling's, all of them, with other weights."""
    nothing = Prediction(coupling, coupling.removed_classes({}))
    here = Pruned(GraphView(model, coupling.view), nothing)
    due = stacks_left(coupling, here)
    return fit_stacks(
        coupling, here, due, data, zeros=zeros, mask=mask, batch=batch, options=options, progress=progress
    )


def shares_left(coupling: Coupling, samples: int | None) -> dict[int, float]:
    """About what of the errors that it has before a stack is left with when it is fitted to so many samples.

    By the dense model's node, for those that read what another layer of their stack gives. It is a matter of how many
    rows there are for each weight: measured with convolutional networks (docs/measured.md).
    """
    whole = Pruned(coupling.view, Prediction(coupling, coupling.removed_classes({})))
    found: dict[int, float] = {}
    for stack in stacks_left(coupling, whole):
        repair = _StackRepair(coupling, whole, stack, ())
        rows = repair.rows(samples) / max(repair.weights, 1)
        left = 1 - _MOST_GAINED * rows / (rows + _HALF_GAINED)
        found |= {place.consumer.node: left for place in stack.places[1:]}
    return found


class _StackRepair:
    """An Accumulator (runtime/moments.py) of what a stack reads and should give; `finish` solves, and puts it in."""

    def __init__(self, coupling: Coupling, pruned: Pruned, stack: Stack, zeros: Collection[str]) -> None:
        self._pruned, self._stack, self._zeros = pruned, stack, zeros
        first, self._last = stack.places[0], stack.places[-1]
        self._consumers = [pruned.consumer(place.consumer) for place in stack.places]
        self._source = self._consumers[0].source
        shape = coupling.shapes.shape[first.consumer.source.tensor]
        self._is_image = self._consumers[0].window is not None
        places = max(prod(shape) // shape[first.consumer.source.axis] // shape[0], 1)
        self._spatial = shape[2:] if self._is_image else (places,)
        self._target = (DENSE, self._last.output if self._last.total is None else self._last.total)
        shortcut = self._last.shortcut if self._last.total is not None else None
        self._added = None if shortcut is None else (PRUNED, pruned.called(shortcut))
        self._take = pruned.taken(self._last)
        self._layers = self._lowered(self._spatial)
        self._weights, self._free = self._read()
        self._held: tuple[list[Maps], list[Maps]] = ([], [])
        self._size = 0

    def samples(self, given: int | None) -> int:
        """How many samples of so many are worth running; None where nobody knows how many there are."""
        there = given or _USUAL
        share = max(there / _USUAL, 1.0)
        places, work = self._layers.lowerings[-1].places, max(self._layers.work(self._weights), 1)
        wanted = max(min(share * _PLACES / places, share * _WORK / work), _FEW)
        held = _ELEMENTS / sum(layer.inputs for layer in self._layers.lowerings)
        return min(max(int(min(wanted, share * held)), _FEWEST), there)

    def rows(self, given: int | None) -> int:
        """How many rows these have for the stack's output."""
        return self.samples(given) * self._layers.lowerings[-1].places

    @property
    def weights(self) -> int:
        """How many weights the stack has."""
        return sum(matrix.size for matrix in self._weights[::2])

    @property
    def reads(self) -> list[tuple[str, str]]:
        """See Accumulator."""
        return [(PRUNED, self._source.tensor), self._target, *([] if self._added is None else [self._added])]

    @property
    def nbytes(self) -> int:
        """See Accumulator."""
        return sum(part.read.nbytes + part.total.nbytes for kind in self._held for part in kind)

    def add(self, values: Named, batch: Batch, tokens: Tokens | None) -> None:
        """See Accumulator."""
        self._size = self._size or batch.size
        axis = self._last.axis
        value, total = values[PRUNED][self._source.tensor], values[DENSE][self._target[1]]
        if not self._is_image and value.size // value.shape[self._source.axis] % batch.size:
            return  # it has no axis of samples
        read = self._maps(value, self._source.axis, batch.size)
        counts = None
        if tokens is not None and not self._is_image:
            counts = tokens.over(total.shape, axis)
            counts = None if counts is None else counts.reshape(batch.size, -1).T
        if self._take is not None:
            total = np.take(total, self._take, axis=axis)
        total = self._maps(total, axis, batch.size)
        added = None if self._added is None else self._maps(values[PRUNED][self._added[1]], axis, batch.size)
        self._held[int(is_held_back(batch, self._size))].append(Maps(read, total, added, counts))

    def finish(self) -> Joined:
        """Solve, and put what is better into the pruned model."""
        stack, (fitted, held) = self._stack, self._held
        self._held = ([], [])
        if not fitted or not held:
            return Joined(stack.title, len(stack.places), 0.0, 0.0, False)
        fitted_maps, held_maps = _joined(fitted), _joined(held)
        layers = self._lowered(fitted_maps.read.shape[1:-1])
        found = fit_together(layers, self._weights, self._free, fitted_maps, held_maps)
        if found.after < found.before:
            self._put(found)
        return Joined(stack.title, len(stack.places), found.before, found.after, found.after < found.before)

    def _lowered(self, spatial: tuple[int, ...]) -> Layers:
        lowerings: list[Lowering] = []
        for consumer in self._consumers:
            lowerings.append(Lowering(consumer, spatial))
            spatial = lowerings[-1].output
        return Layers(lowerings, [place.bounds for place in self._stack.places])

    def _maps(self, value: np.ndarray, axis: int, samples: int) -> np.ndarray:
        """[channels, *spatial, samples], float32."""
        if self._is_image:
            return np.moveaxis(value, 0, -1).astype(np.float32)
        found = np.moveaxis(value, axis, 0).reshape(value.shape[axis], samples, -1)
        return found.transpose(0, 2, 1).astype(np.float32)

    def _read(self) -> tuple[Weights, list[np.ndarray | bool]]:
        """The stack's weights as they are, and which of them may change."""
        weights: Weights = []
        free: list[np.ndarray | bool] = []
        for place in self._stack.places:
            matrix, bias = (array.astype(np.float32) for array in self._pruned.weights(place))
            weights += [matrix, bias]
            free += [matrix != 0 if place.weight in self._zeros else True, place.free_bias is not None]
        return weights, free

    def _put(self, found: Together) -> None:
        pairs = zip(found.weights[::2], found.weights[1::2], strict=True)
        for place, (matrix, bias) in zip(self._stack.places, pairs, strict=True):
            self._pruned.put(place, matrix, bias)


def _joined(parts: Sequence[Maps]) -> Maps:
    added = [part.added for part in parts if part.added is not None]
    counts = [part.counts for part in parts if part.counts is not None]
    return Maps(
        np.concatenate([part.read for part in parts], axis=-1),
        np.concatenate([part.total for part in parts], axis=-1),
        np.concatenate(added, axis=-1) if added else None,
        np.concatenate(counts, axis=-1) if counts else None,
    )
