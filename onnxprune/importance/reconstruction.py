"""Structured Optimal Brain Surgeon: what is lost with a unit once the weights beside it have made up for it."""

from __future__ import annotations

import logging

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.importance.elimination import Part, eliminate
from onnxprune.importance.measured import NO_CONSUMER, real_weight, statistics_of
from onnxprune.importance.registry import Context, criterion
from onnxprune.importance.traits import Unscored, traits
from onnxprune.runtime.consumers import Consumer
from onnxprune.runtime.footprint import Footprint, footprints
from onnxprune.runtime.statistics import Statistics

log = logging.getLogger(__name__)

_TIE = 1e-12


@criterion("obs")
@traits(needs=("gram", "mean", "second"), normalise="none")
def obs(coupling: Coupling, context: Context) -> list[np.ndarray | Unscored]:
    """The share of its consumers' output that is lost with a unit, in the order of backward elimination.

    Units are dropped one after the other, the least loss first (importance/elimination.py), and the weights of what
    stays are adjusted each time; a unit's score is what its own removal adds, never less than for those before it.
    Where a consumer has no stored weights, the variance of what it reads counts, whatever else is gone.

    Frantar, Alistarh, "Optimal Brain Compression", NeurIPS 2022, arXiv:2208.11580; Kurtic et al., "ZipLM", NeurIPS
    2023, arXiv:2302.04089.
    """
    statistics = statistics_of(context, "obs")
    poor = [c.title for c in statistics.consumers if c.output is not None and not statistics.gram(c).has_enough_rows]
    if poor:
        log.warning(
            "%d of %d layers have more inputs than the data has rows for (%s first): their statistics are shrunk "
            "towards independence; more samples help", len(poor), len(statistics.consumers), poor[0],
        )  # fmt: skip
    found: list[np.ndarray | Unscored] = []
    for index, group in enumerate(coupling.groups):
        prints = footprints(coupling, index, statistics.consumers)
        if not prints:
            found.append(Unscored(NO_CONSUMER))
            continue
        parts, fixed = [], np.zeros(group.size)
        for item in prints:
            mine = _parts(coupling, statistics, item, group.size)
            if mine:
                parts += mine
            else:
                fixed += _by_itself(coupling, statistics, item, group.size)
        done = eliminate(group.size, parts, fixed)
        scores = np.empty(group.size)
        added = np.maximum.accumulate(np.diff(done.lost, prepend=0.0))
        scores[done.order] = added * (1 + _TIE * np.arange(group.size)) + _TIE * np.arange(group.size)
        found.append(scores)
    return found


def _parts(coupling: Coupling, statistics: Statistics, item: Footprint, size: int) -> list[Part]:
    """A part for each block of a linear consumer that feels the units; none where it is not linear."""
    consumer = item.consumer
    weight = real_weight(coupling.view, consumer) if consumer.output is not None else None
    if weight is None:
        return []
    matrix, gram = consumer.matrix(weight), statistics.gram(consumer)
    return [
        Part(gram.conditioned(block), np.asarray(matrix[block], np.float64), item.in_block(block, size))
        for block in np.unique(item.blocks).tolist()
    ]


def _by_itself(coupling: Coupling, statistics: Statistics, item: Footprint, size: int) -> np.ndarray:
    """Per unit its share of what a consumer reads, times the weights that it meets where these are known."""
    consumer = item.consumer
    values = _energy(coupling, statistics, consumer)
    total = float(values.sum())
    found = np.zeros(size)
    if total > 0:
        taps = consumer.features // (consumer.source.size // consumer.groups)
        channel = (item.blocks * consumer.features + item.features) // taps
        np.add.at(found, item.units, values[channel] / taps / total)
    return found


def _energy(coupling: Coupling, statistics: Statistics, consumer: Consumer) -> np.ndarray:
    values = statistics.variance(consumer.source)
    weight = real_weight(coupling.view, consumer)
    if weight is not None:
        return np.asarray(values * consumer.reach(weight, np.square))
    if consumer.other is not None:
        return np.asarray(values * statistics.channel("second", consumer.other))
    return np.asarray(values)
