"""Criteria that weigh what flows into a consumer by the weights that it meets there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.importance.measured import NO_CONSUMER, real_weight, statistics_of
from onnxprune.importance.registry import Context, criterion
from onnxprune.importance.tally import Tally
from onnxprune.importance.traits import Unscored, traits
from onnxprune.runtime.consumers import Source, classes_of, output_classes


@criterion("wanda")
@traits(needs=("second",))
def wanda(coupling: Coupling, context: Context) -> list[np.ndarray | Unscored]:
    """Per consumer, the magnitudes of the weights that an input meets times the input's norm, summed per unit.

    Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", ICLR 2024, arXiv:2306.11695: |W|
    times ||X||, here for whole inputs. The norm is the root of the mean square over samples and places. Where two
    activations are multiplied (queries and keys), each is the other's weight.
    """
    statistics = statistics_of(context, "wanda")

    def norm(source: Source) -> np.ndarray:
        return np.asarray(np.sqrt(statistics.channel("second", source)))

    return _over_consumers(coupling, context, norm, norm, np.abs)


@criterion("flap")
@traits(needs=("mean", "second"))
def flap(coupling: Coupling, context: Context) -> list[np.ndarray | Unscored]:
    """Per consumer, the variance of an input times the squared norm of the weights that it meets, summed per unit.

    An et al., "Fluctuation-based Adaptive Structured Pruning for Large Language Models", AAAI 2024, arXiv:2312.11983:
    what fluctuates little can be replaced by its mean, which a bias then carries (repair does that).
    """
    statistics = statistics_of(context, "flap")
    return _over_consumers(
        coupling, context, statistics.variance, lambda source: statistics.channel("second", source), np.square
    )


def _over_consumers(
    coupling: Coupling,
    context: Context,
    own: Callable[[Source], np.ndarray],
    others: Callable[[Source], np.ndarray],
    measure: Callable[[np.ndarray], np.ndarray],
) -> list[np.ndarray | Unscored]:
    """Each input's `own` number times the `measure` of its weights, or `others` of the data that it meets instead."""
    tally = Tally(coupling, context.aggregate)
    for consumer in statistics_of(context, "").consumers:
        values = own(consumer.source)
        weight = real_weight(coupling.view, consumer)
        if weight is not None:
            values = values * consumer.reach(weight, measure)
        elif consumer.other is not None:
            values = values * others(consumer.other)
        tally.add(classes_of(coupling, consumer.source), values, output_classes(coupling, consumer))
    return tally.by_group(NO_CONSUMER)
