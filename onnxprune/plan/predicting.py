"""From a latency table to the time of any choice: what each segment's time is made of, fitted to what was measured."""

from __future__ import annotations

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.coupling.footprint import Footprint, Products
from onnxprune.edit.blocks import blocks_called
from onnxprune.plan.choices import Choice
from onnxprune.plan.costs import Lengths
from onnxprune.plan.counts import Counts
from onnxprune.plan.table import LatencyTable
from onnxprune.runtime.segments import Cuts

_NEAR = 0.3  # in logarithms of time: how far what was measured of whole models says something
_FLOOR = 1e-3  # and how much it says farther away
_PLAN = 30.0  # a plan that was measured says more of the next than widths drawn at random
_SWEEPS = 300  # of the fit, a few dozen bring it to rest


class Predictor:
    """Milliseconds at lengths of slots (int64, see Coupling.lengths).

    A segment takes a constant, and so much per multiply-accumulate of each of its nodes and per element of each value
    that passes: non-negative factors, by least squares of relative errors over the table's samples. Their sum over
    segments is corrected by how whole models of about that time compared with theirs.
    """

    def __init__(self, coupling: Coupling, table: LatencyTable) -> None:
        lengths_at = lengths_by_group(coupling)
        self._features = _Features(coupling, Cuts(table.cuts), len(table.samples[0].segments or ()))
        timed = [sample for sample in table.samples if sample.segments is not None]
        rows = [self._features(coupling.footprint, lengths_at(sample.kept)) for sample in timed]
        times = np.array([sample.segments for sample in timed], float)
        self._factors = [
            _fit(np.stack([row[segment] for row in rows]), times[:, segment]) for segment in range(times.shape[1])
        ]
        footprints = [coupling.without(blocks_called(coupling, sample.dropped)) for sample in table.samples]
        sums = np.array([
            self._sum(take, lengths_at(sample.kept)) for take, sample in zip(footprints, table.samples, strict=True)
        ])  # fmt: skip
        self._at = np.log(sums)
        self._weight = np.array([_PLAN if sample.segments is None else 1.0 for sample in table.samples])
        self._off = np.log([sample.whole for sample in table.samples]) - self._at

    def __call__(self, footprint: Footprint, lengths: np.ndarray) -> float:
        """Milliseconds of the whole model; `footprint` says which nodes are gone."""
        total = self._sum(footprint, lengths)
        near = self._weight * (np.exp(-(((np.log(total) - self._at) / _NEAR) ** 2)) + _FLOOR)
        return float(total * np.exp((near * self._off).sum() / near.sum()))

    def _sum(self, footprint: Footprint, lengths: np.ndarray) -> float:
        found = self._features(footprint, lengths)
        return float(sum(max(f @ row, 1e-6 * row[0]) for f, row in zip(self._factors, found, strict=True)))


class _Features:
    """Per segment what its time may depend on (float64): 1, MACs by node, elements by kind of value; as shares."""

    def __init__(self, coupling: Coupling, cuts: Cuts, segments: int) -> None:
        of_node = cuts.segment_of(coupling)
        self._works = of_node[np.asarray(coupling.work_sites, np.int64)]
        self._segments = segments
        self._rows, self._values, self._makers = self._elements(coupling, of_node)
        dense = coupling.lengths()
        self._dense_macs = np.maximum(coupling.footprint.macs_by_work(dense), 1e-9)
        self._dense_elements = np.maximum(self._values(dense), 1e-9)

    def _elements(self, coupling: Coupling, of_node: np.ndarray) -> tuple[np.ndarray, Products, list[list[int]]]:
        """Segment, product of lengths and making nodes of every kind of value: those of the same axes are one kind."""
        found: dict[tuple[int, tuple[int, ...]], tuple[float, list[list[int]], list[int]]] = {}
        varying = set(np.unique(coupling.units.slot).tolist())
        places = coupling.solution.places.slots  # slots that are linked as a whole have one length
        for node in coupling.view.nodes:
            for name in node.outputs:
                if not name or name not in coupling.shapes.shape or name in coupling.view.fixed:
                    continue
                slots = [coupling.atoms.slot_at((name, -1, -1), a) for a in range(len(coupling.shapes.shape[name]))]
                mine = tuple(sorted(slot for slot in slots if slot is not None and slot in varying))
                if not mine:
                    continue
                size = float(np.prod(coupling.shapes.shape[name]))
                lengths = np.prod([coupling.atoms.slots[slot].size for slot in mine])
                key = (int(of_node[node.index]), tuple(int(places.of[s]) for s in mine))
                factor, axes, makers = found.setdefault(key, (0.0, [[slot] for slot in mine], []))
                makers.append(node.index)
                found[key] = (factor + size / float(lengths), axes, makers)
        rows = [(factor, axes) for factor, axes, _ in found.values()]
        segments = np.fromiter((segment for segment, _ in found), np.int64, len(found))
        return segments, Products(rows, len(coupling.atoms.slots)), [makers for _, _, makers in found.values()]

    def __call__(self, footprint: Footprint, lengths: np.ndarray) -> list[np.ndarray]:
        macs = footprint.macs_by_work(lengths) / self._dense_macs
        elements = self._values(lengths) / self._dense_elements
        if footprint.dropped:
            elements = elements * [not footprint.dropped.issuperset(makers) for makers in self._makers]
        found = []
        for segment in range(self._segments):
            row = np.concatenate([[1.0], macs[self._works == segment], elements[self._rows == segment]])
            found.append(row if row[1:].any() or len(row) == 1 else np.zeros_like(row))  # gone with all its nodes
        return found


def _fit(features: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Non-negative factors (float64) of least relative error: coordinate descent, the same bits for the same input."""
    scaled = features / np.maximum(times, 1e-9)[:, None]
    gram, right = scaled.T @ scaled, scaled.sum(axis=0)
    gram[np.diag_indices_from(gram)] *= 1 + 1e-6
    factors = np.zeros(len(right))
    for _ in range(_SWEEPS):
        for i in range(len(right)):
            if gram[i, i] > 0:
                factors[i] = max(0.0, factors[i] + (right[i] - gram[i] @ factors) / gram[i, i])
    return factors


def lengths_by_group(coupling: Coupling) -> Lengths:
    """Lengths with the first so many units of each group of the coupling kept."""
    return Lengths(coupling, [Choice(g, Counts(g.size, 1), np.zeros(g.size)) for g in coupling.groups])
