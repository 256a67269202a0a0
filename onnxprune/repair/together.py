"""Fit the layers of each section together, once each has been fitted alone: what one alone cannot do, several may.

A layer fitted alone gives what it gave in the dense model, as well as its units can. Where units have gone between two
layers, the first one is better off giving something else: what the second can make most of, and what a block lacks the
next one may bring (repair/descent.py). In graph order, each section reads what those before it give by then; short
sections come first, long ones, which start from what these found, after them.

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
from onnxprune.repair.descent import BATCH, Maps, Problem, Together, fit_together
from onnxprune.repair.passes import DENSE, PRUNED, Pruned, batch_for, is_held_back
from onnxprune.repair.places import Place, places
from onnxprune.repair.program import Weights
from onnxprune.repair.sections import Section, sections
from onnxprune.runtime.bounds import Bounds, bounds_behind
from onnxprune.runtime.consumers import consumers_of
from onnxprune.runtime.data import Batch, Data
from onnxprune.runtime.ort import RunOptions
from onnxprune.runtime.rows import Named, Tokens
from onnxprune.runtime.stream import stream
from onnxprune.runtime.workers import Each, workers

log = logging.getLogger(__name__)

LENGTHS = (6, 12)
"""Layers of a section at most, in one pass after the other."""

STEPS = (64, 640)
"""The least and the most steps that a section is fitted in."""

_WORK = 10**13  # multiply-accumulates of all steps, more or less: what bounds the time where a model is large
_PULLED = 3  # what a step takes, in runs of the section
_ELEMENTS = 1 << 27  # of the maps that are held
_USUAL = 512  # samples: where more are given, steps and work may grow as they do
_FEWEST = 8  # samples, whatever they hold
_MOST_GAINED, _HALF_GAINED = 0.47, 2.0  # of a section's error; rows for each weight of the dense model
Progress = Callable[[int, int], None]
"""Called with what is done, layers or sections, and how many there are."""


@dataclass(frozen=True)
class Joined:
    """What was done to a section of `layers`. Errors as of Refit, of what comes out behind its last layer."""

    title: str
    layers: int
    before: float
    after: float
    changed: bool


def sections_left(coupling: Coupling, pruned: Pruned, first: int = 0) -> list[Section]:
    """The sections of the pruned model to fit, in order: of each pass, those that end behind the dense node `first`."""
    made = pruned.view.producer
    able = [place for place in places(coupling, consumers_of(coupling, every=True)) if place.output in made]
    found: dict[tuple[Place, ...], Section] = {}
    for longest in LENGTHS:
        for section in sections(coupling, pruned, able, longest):
            if section.last.consumer.node >= first:
                found.setdefault(section.places, section)
    return list(found.values())


def fit_sections(
    coupling: Coupling,
    pruned: Pruned,
    due: Sequence[Section],
    data: Data,
    *,
    batch: int,
    zeros: Collection[str] = (),
    seed: int = 0,
    mask: str | None = None,
    options: RunOptions | None = None,
    progress: Progress | None = None,
) -> tuple[Joined, ...]:
    """Fit the sections `due` of the pruned model, in order. Its weights change, and nothing else.

    Zeros of the stored weights named in `zeros` stay. One batch of eight only judges, the same samples as where layers
    are fitted alone in batches of that size, and a section that is no better there stays as it is. For `mask` see
    `calibrate`; `progress` is called with the sections done and all. Raises what `stream` raises.
    """
    found = []
    repairs = [_Repair(coupling, pruned, section, zeros) for section in due]
    steps = _steps(sum(repair.work for repair in repairs), data.samples)
    options = options or RunOptions()
    for number, repair in enumerate(repairs):
        if progress is not None:
            progress(number, len(due))
        repair.read()
        samples = repair.samples(data.samples)
        stream(
            {DENSE: coupling.view, PRUNED: pruned.view}, [repair], data.part(0, samples),
            batch=min(batch, max(1, samples // 2)), options=options, mask=mask, dtypes=coupling.shapes.dtype,
        )  # fmt: skip
        with workers(options.threads) as each:
            found.append(repair.finish(steps, seed, each))
        log.debug("%s", found[-1])
    if progress is not None:
        progress(len(due), len(due))
    return tuple(found)


def _steps(work: int, samples: int | None) -> int:
    """In how many steps each section is fitted, where all take so many multiply-accumulates of a sample."""
    least, most = STEPS
    share = max((samples or _USUAL) / _USUAL, 1.0)
    return int(np.clip(share * _WORK / max(work * BATCH * _PULLED, 1), least, share * most))


def fit_other_weights(
    coupling: Coupling, model: Model, data: Data, zeros: Collection[str], *,
    seed: int = 0, mask: str | None = None, batch: int | None = None, options: RunOptions | None = None,
    progress: Progress | None = None,
) -> tuple[Joined, ...]:  # fmt: skip
    """`fit_sections` for a model that has the units of the coupling's, all of them, with other weights."""
    nothing = Prediction(coupling, coupling.removed_classes({}))
    here = Pruned(GraphView(model, coupling.view), nothing)
    due = sections_left(coupling, here)
    return fit_sections(
        coupling,
        here,
        due,
        data,
        batch=batch_for(data, batch),
        zeros=zeros,
        seed=seed,
        mask=mask,
        options=options,
        progress=progress,
    )


def shares_left(coupling: Coupling, samples: int | None) -> dict[int, float]:
    """About what of the errors that it has before a section is left with when it is fitted to so many samples.

    By the dense model's node, for those that read what another layer of their section gives. It is a matter of how many
    rows there are for each weight: measured with convolutional networks (docs/measured.md).
    """
    whole = Pruned(coupling.view, Prediction(coupling, coupling.removed_classes({})))
    found: dict[int, float] = {}
    for section in sections_left(coupling, whole):
        repair = _Repair(coupling, whole, section, ())
        repair.read()
        rows = repair.rows(samples) / max(repair.weights, 1)
        left = 1 - _MOST_GAINED * rows / (rows + _HALF_GAINED)
        for place in section.places[1:]:
            found[place.consumer.node] = min(left, found.get(place.consumer.node, 1.0))
    return found


class _Repair:
    """An Accumulator (runtime/moments.py) of what a section reads and should give; `finish` solves, and puts it in."""

    def __init__(self, coupling: Coupling, pruned: Pruned, section: Section, zeros: Collection[str]) -> None:
        self._coupling, self._pruned, self._section, self._zeros = coupling, pruned, section, zeros
        self._take = pruned.taken(section.last)
        self._weights: Weights = []
        self._free: list[np.ndarray | bool] = []
        self._held: tuple[list[Maps], list[Maps]] = ([], [])
        self._size = 0
        shapes = [self._shape(*read) for read in zip(section.reads, section.axes, strict=True)]
        self._elements = sum(prod(shape) for shape in shapes)
        program = section.program(shapes)
        self._places = 0 if program is None else max(layer.lowering.places for layer in program.layers)
        self.work = 0 if program is None else program.work

    def read(self) -> None:
        """The section's weights as they are by now, and which of them may change."""
        self._weights, self._free = [], []
        for place in self._section.places:
            matrix, bias = (array.astype(np.float32) for array in self._pruned.weights(place))
            self._weights += [matrix, bias]
            self._free += [matrix != 0 if place.weight in self._zeros else True, place.free_bias is not None]

    def samples(self, given: int | None) -> int:
        """How many samples of so many can be held."""
        there = given or _USUAL
        return min(max(_ELEMENTS // max(self._elements, 1), _FEWEST), there)

    def rows(self, given: int | None) -> int:
        """How many rows these have for the section's output."""
        return self.samples(given) * self._places

    @property
    def weights(self) -> int:
        """How many weights the section has."""
        return sum(matrix.size for matrix in self._weights[::2])

    @property
    def reads(self) -> list[tuple[str, str]]:
        """See Accumulator."""
        return [*((PRUNED, name) for name in self._section.reads), (DENSE, self._section.end)]

    @property
    def nbytes(self) -> int:
        """See Accumulator."""
        return sum(part.nbytes for kind in self._held for part in kind)

    def add(self, values: Named, batch: Batch, tokens: Tokens | None) -> None:
        """See Accumulator."""
        self._size = self._size or batch.size
        section, axis = self._section, self._section.last.axis
        total = values[DENSE][section.end]
        if not section.is_image and total.size // total.shape[axis] % batch.size:
            return  # it has no axis of samples
        counts = None
        if tokens is not None and not section.is_image:
            counts = tokens.over(total.shape, axis)
            counts = None if counts is None else counts.reshape(batch.size, -1).T
        if self._take is not None:
            total = np.take(total, self._take, axis=axis)
        given = [
            self._maps(values[PRUNED][name], of, batch.size)
            for name, of in zip(section.reads, section.axes, strict=True)
        ]
        maps = Maps(tuple(given), self._maps(total, axis, batch.size), counts)
        self._held[int(is_held_back(batch, self._size))].extend(maps.parts(BATCH))

    def finish(self, steps: int, seed: int, each: Each) -> Joined:
        """Solve, and put what is better into the pruned model."""
        section, (fitted, held) = self._section, self._held
        self._held = ([], [])
        if not fitted or not held:
            return self._unchanged()
        program = section.program([maps.shape[:-1] for maps in fitted[0].given])
        if program is None:
            return self._unchanged()
        problem = Problem(program, bounds_behind(self._coupling, section.end) or Bounds())
        found = fit_together(problem, self._weights, self._free, fitted, held, steps=steps, seed=seed, each=each)
        if found.after < found.before:
            self._put(found)
        return Joined(section.title, len(section.places), found.before, found.after, found.after < found.before)

    def _unchanged(self) -> Joined:
        return Joined(self._section.title, len(self._section.places), 0.0, 0.0, False)

    def _shape(self, name: str, axis: int) -> tuple[int, ...]:
        """Of the maps of a value that is read, [channels, *spatial], at the sizes that are bound."""
        shape = self._coupling.shapes.shape[name]
        channels = self._pruned.prediction.length((name, -1, -1), axis, shape[axis])
        if self._section.is_image:
            return channels, *shape[2:]
        return channels, max(prod(shape) // shape[axis] // shape[0], 1)

    def _maps(self, value: np.ndarray, axis: int, samples: int) -> np.ndarray:
        """[channels, *spatial, samples], float32."""
        if self._section.is_image:
            return np.moveaxis(value, 0, -1).astype(np.float32)
        found = np.moveaxis(value, axis, 0).reshape(value.shape[axis], samples, -1)
        return found.transpose(0, 2, 1).astype(np.float32)

    def _put(self, found: Together) -> None:
        pairs = zip(found.weights[::2], found.weights[1::2], strict=True)
        for place, (matrix, bias) in zip(self._section.places, pairs, strict=True):
            self._pruned.put(place, matrix, bias)
