"""Criteria that look at what flows into the consumers of a unit, and not at the weights."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.importance.measured import NO_CONSUMER, statistics_of
from onnxprune.importance.registry import Context, criterion
from onnxprune.importance.tally import Tally
from onnxprune.importance.traits import Unscored, traits
from onnxprune.runtime.consumers import Source, classes_of, sources_of

log = logging.getLogger(__name__)


@criterion("apoz")
@traits(needs=("zeros",))
def apoz(coupling: Coupling, context: Context) -> list[np.ndarray | Unscored]:
    """The share of a unit's activations that are not zero, where consumers read them.

    Hu et al., "Network Trimming: A Data-Driven Neuron Pruning Approach towards Efficient Deep Architectures", 2016,
    arXiv:1607.03250 (the average percentage of zeros, APoZ, taken from 1). It tells units apart behind ReLU and its
    like only: a GELU or SiLU gives no zeros, and a warning says for how many groups that is so.
    """
    statistics = statistics_of(context, "apoz")
    found = _over_sources(coupling, context, lambda source: 1 - statistics.channel("zeros", source))
    blind = sum(isinstance(scores, np.ndarray) and bool(np.ptp(scores) == 0) for scores in found)
    if blind:
        log.warning(
            "apoz cannot tell the units of %d of %d groups apart: their activations are never zero, or always; "
            "mean_abs and wanda can", blind, len(found),
        )  # fmt: skip
    return found


@criterion("mean_abs")
@traits(needs=("abs",))
def mean_abs(coupling: Coupling, context: Context) -> list[np.ndarray | Unscored]:
    """The mean magnitude of a unit's activations, where consumers read them.

    The activation criterion in Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient
    Inference", ICLR 2017, arXiv:1611.06440, section 2.2.
    """
    statistics = statistics_of(context, "mean_abs")
    return _over_sources(coupling, context, lambda source: statistics.channel("abs", source))


def _over_sources(
    coupling: Coupling, context: Context, values: Callable[[Source], np.ndarray]
) -> list[np.ndarray | Unscored]:
    tally = Tally(coupling, context.aggregate)
    for source in sources_of(statistics_of(context, "").consumers):
        tally.add(classes_of(coupling, source), values(source))
    return tally.by_group(NO_CONSUMER)
