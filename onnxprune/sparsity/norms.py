"""What each weight meets: root mean squares of the inputs of every use, from calibration statistics."""

from __future__ import annotations

import numpy as np

from onnxprune.runtime.statistics import Statistics
from onnxprune.sparsity.weights import Weights


def norms_of(statistics: Statistics, weights: Weights) -> dict[tuple[int, int], np.ndarray]:
    """By node and input position of a use (see reorder.Norms), [K]; `statistics` have the kind `second` of all.

    A grouped convolution's weights meet another channel in each group: their mean square is taken.
    """
    found: dict[tuple[int, int], np.ndarray] = {}
    by_node = {(consumer.node, consumer.position): consumer for consumer in statistics.consumers}
    for weight in weights.weights:
        for use in weight.uses:
            # A product's other operand is data; anything else reads data at its first input.
            consumer = by_node.get((use.node, 1)) if use.position == 0 else by_node.get((use.node, 0))
            if consumer is None:
                continue
            second = statistics.channel("second", consumer.source).reshape(-1)
            length = use.shape[use.axis]
            if len(second) == length:
                found[use.node, use.position] = np.sqrt(second)
            elif len(second) % length == 0:
                found[use.node, use.position] = np.sqrt(second.reshape(-1, length).mean(axis=0))
    return found
