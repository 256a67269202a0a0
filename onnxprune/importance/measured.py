"""What criteria share that look at the consumers of units: their statistics, and the weights they meet."""

from __future__ import annotations

import numpy as np

from onnxprune.errors import SettingError
from onnxprune.graph.view import GraphView
from onnxprune.importance.registry import Context
from onnxprune.importance.weights import weight
from onnxprune.runtime.consumers import Consumer
from onnxprune.runtime.fixed import fixed_value
from onnxprune.runtime.statistics import Statistics

STATISTICS = "statistics"
"""Where `Context.data` has them."""

NO_CONSUMER = "no activation of its units that is summed over could be measured"


def statistics_of(context: Context, criterion: str) -> Statistics:
    """The statistics among the context's data. Raises SettingError where there are none."""
    found = context.data.get(STATISTICS)
    if not isinstance(found, Statistics):
        raise SettingError(
            f"the criterion {criterion!r} needs statistics of activations",
            remedy="give data with --data, or in Python score(…, data={'statistics': calibrate(…)})",
        )
    return found


def real_weight(view: GraphView, consumer: Consumer) -> np.ndarray | None:
    """The weight that a consumer's data meets, as the real numbers that it stands for; None where there is none.

    In the shape that Consumer.matrix and Consumer.reach take.
    """
    if consumer.weight is None:
        return None
    source = view.identity_source(consumer.weight)
    if source in view.constants:
        stored = weight(view, source)
        return None if stored is None else stored.whole()
    computed = fixed_value(view, consumer.weight)
    if computed is None or computed.dtype.kind not in "fV":
        return None
    return computed.astype(np.float64 if computed.dtype == np.float64 else np.float32, copy=False)
