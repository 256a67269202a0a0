"""Re-fit one layer: collect its moments in a pass through both models, solve, put the weights in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.errors import SettingError
from onnxprune.repair.clipped import fit_behind, share_behind
from onnxprune.repair.compensate import kept_columns, made_up_for
from onnxprune.repair.fit import fit
from onnxprune.repair.passes import DENSE, PRUNED, Pruned, is_held_back
from onnxprune.repair.places import Place
from onnxprune.runtime.aimed import Moments
from onnxprune.runtime.data import Batch
from onnxprune.runtime.keeping import RowStore
from onnxprune.runtime.moments import RowProducts
from onnxprune.runtime.pairs import PairReader
from onnxprune.runtime.rows import Named, Sampling, Tokens
from onnxprune.runtime.statistics import Gram

_FITTED_AND_HELD = 2  # kinds of batches
_KEPT = 1 << 27  # bytes of a layer's rows and aims that are kept of each kind


@dataclass(frozen=True)
class Refit:
    """What was done to one layer. Errors are measured on samples held back, behind a Relu or Clip if there is one, as
    shares of its dense output's variance.

    `ridge` is infinite where only the bias changed. Of a BatchNormalization (`is_norm`) the statistics moved: `before`
    is by how much its input's means had, in their variances.
    """

    layer: str
    before: float
    after: float
    ridge: float | None = None
    changed: bool = False
    is_norm: bool = False


class LayerRepair:
    """An Accumulator (runtime/moments.py) of what a layer's least squares need; `finish` solves them.

    In the pruned model's own numbering; the dense one's outputs are taken at the indices that are left.
    """

    def __init__(self, coupling: Coupling, pruned: Pruned, place: Place, sampling: Sampling) -> None:
        self._coupling, self._pruned, self._place, self._sampling = coupling, pruned, place, sampling
        self.node = place.consumer.node
        self._rows = pruned.consumer(place.rows)
        self._shortcut = None if place.shortcut is None else pruned.called(place.shortcut)
        self._take = pruned.taken(place)
        self._pairs: PairReader | None = None
        kept = kept_columns(coupling, pruned.prediction.removed, place.rows)
        self._columns = kept if place.rows.groups == 1 and len(kept) < place.rows.features else None
        self._parts: list[RowProducts] = []
        self._dense: list[RowProducts] = []
        self._samples: list[RowStore] = []
        self._size = 0

    @property
    def reads(self) -> list[tuple[str, str]]:
        """See Accumulator."""
        pairs = self._start()
        return [*pairs.reads, *(pair for part in self._dense[:1] for pair in part.reads)]

    @property
    def nbytes(self) -> int:
        """See Accumulator."""
        sums = sum(part.nbytes for part in (*self._parts, *self._dense))
        return sums + sum(held.nbytes for held in self._samples)

    def add(self, values: Named, batch: Batch, tokens: Tokens | None) -> None:
        """See Accumulator."""
        self._size = self._size or batch.size
        which = int(is_held_back(batch, self._size))
        for pair in self._start().read(values, batch, tokens):
            self._parts[which].append(pair)
            if self._samples:
                self._samples[which].append(pair)
        if self._dense:
            self._dense[which].add(values, batch, tokens)

    def finish(self) -> Refit:
        """Solve, and put what is better into the pruned model. Raises SettingError where no rows were held back."""
        dense = [part.result() for part in self._dense]
        moments, samples = self._moments(dense), self._samples
        self._pairs, self._parts, self._dense, self._samples = None, [], [], []
        place = self._place
        if len(moments) < _FITTED_AND_HELD:
            raise SettingError(
                f"{place.consumer.title} cannot be re-fitted: the data make a single batch, and none can be held back",
                remedy="give more samples, or --no-repair",
            )
        weight, bias = self._pruned.weights(place)
        is_free = place.free_bias is not None
        sliced = start = weight, bias
        found = fit(moments[0], moments[1], *sliced, free_bias=is_free)
        if self._columns is not None:
            other = self._made_up_for(self._columns, dense, bias)
            from_there = fit(moments[0], moments[1], *other, free_bias=is_free)
            if from_there.after < found.after:
                start, found = other, from_there
        error = moments[1].share
        if samples and place.bounds is not None:
            halves = samples[0], samples[1]
            found = fit_behind(place.bounds, halves, moments[0], start, found, free_bias=is_free)
            error = partial(share_behind, place.bounds, samples[1])
        changed = found.ridge is not None or start is not sliced
        if changed:
            self._pruned.put(place, found.weight, found.bias)
        after = found.after if found.ridge is not None else error(*start)
        return Refit(place.consumer.title, error(*sliced), after, found.ridge, changed)

    def _made_up_for(
        self, columns: np.ndarray, dense: Sequence[Mapping[str, np.ndarray]], bias: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The weight and bias that make up for inputs that are gone, were the others as they are in the dense model.

        What a layer gives follows from what it reads without noise there, so these weights hold on other samples, too;
        those fitted to the pruned model's inputs hold on to them.
        """
        whole, _ = self._dense_layer()
        if self._take is not None:
            whole = whole[:, self._take]
        fitted, held = (Gram(part["second"], part["mean"], int(part["rows"])) for part in dense)
        is_free = self._place.free_bias is not None
        fresh, missing = made_up_for(fitted, held, columns, whole, centred=is_free)
        return fresh[None], bias + missing if is_free else bias

    def _start(self) -> PairReader:
        if self._pairs is not None:
            return self._pairs
        place = self._place
        shortcut = self._shortcut
        if place.pooled or self._columns is not None:
            reader = PairReader(place.rows, self._sampling, model=DENSE)
            self._dense = [RowProducts(reader) for _ in range(_FITTED_AND_HELD)]
        if place.pooled:
            target, take = place.rows.source.tensor, None
            rows = self._rows
        else:
            rows = replace(self._rows, output=(place.output, place.axis))
            target = place.total if place.total is not None and shortcut is not None else place.output
            take = self._take
        minus = None if place.pooled or shortcut is None else (PRUNED, shortcut)  # dropped blocks are not in it
        if place.bounds is not None and not place.pooled:
            self._samples = [RowStore(limit=_KEPT) for _ in range(_FITTED_AND_HELD)]
        self._pairs = PairReader(rows, self._sampling, model=PRUNED, target=(DENSE, target), minus=minus, take=take)
        self._parts = [RowProducts(self._pairs) for _ in range(_FITTED_AND_HELD)]
        return self._pairs

    def _moments(self, dense: Sequence[Mapping[str, np.ndarray]]) -> list[Moments]:
        """Of the samples fitted to, and of those held back; fewer where there were none of them."""
        found = [part.result() for part in self._parts]
        if self._place.pooled:
            weight, bias = self._dense_layer()
            for mine, theirs in zip(found, dense, strict=True):
                if "cross" not in mine:
                    continue
                target = theirs["mean"] @ weight
                square = np.einsum("dk,gdk->gk", weight, theirs["second"] @ weight)
                mine["cross"] = mine["cross"] @ weight + mine["mean"][:, :, None] * bias
                mine["target_second"] = square + 2 * target * bias + bias**2
                mine["target_mean"] = target + bias
                if self._take is not None:
                    for name in ("cross", "target_second", "target_mean"):
                        mine[name] = mine[name][..., self._take]
        return [Moments.of(mine) for mine in found if "cross" in mine]

    def _dense_layer(self) -> tuple[np.ndarray, np.ndarray]:
        """The layer's matrix [D, K] and bias [K] in the dense model, all factors in them."""
        model, constants, place = self._coupling.view.model, self._coupling.view.constants, self._place
        stored = model.array(constants[place.weight]).astype(np.float64)
        weight = place.consumer.matrix(stored)[0] * place.consumer.gain
        if place.bias is None:
            return weight, np.zeros(weight.shape[1])
        return weight, model.array(constants[place.bias.name]).astype(np.float64).reshape(-1) * place.bias.factor
