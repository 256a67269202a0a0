"""Where units are felt: which indices of a consumer's axis go with each unit of a group."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.coupling.owners import Owners
from onnxprune.runtime.consumers import Consumer, classes_of, output_classes


@dataclass(frozen=True)
class Footprint:
    """Unit `units[i]` takes along feature `features[i]` of block `blocks[i]` of a consumer's rows (all int64).

    Features are counted as the columns of a block's rows are: by channel, then by tap. Sorted by unit, block, feature.
    """

    consumer: Consumer
    units: np.ndarray
    blocks: np.ndarray
    features: np.ndarray

    def in_block(self, block: int, size: int) -> list[np.ndarray]:
        """The features that each of a group's `size` units takes of one block."""
        mine = self.blocks == block
        bounds = np.searchsorted(self.units[mine], np.arange(size + 1))
        features = self.features[mine]
        return [features[start:end] for start, end in pairwise(bounds)]


def footprints(coupling: Coupling, group: int, consumers: tuple[Consumer, ...]) -> list[Footprint]:
    """The footprints of one group's units, of consumers where they leave any.

    A block of a grouped convolution all of whose outputs go with the unit does not feel it, and has none.
    """
    owners = Owners.among(coupling.units, [coupling.units.groups[group]])
    found = []
    for consumer in consumers:
        channel, unit = owners.of(classes_of(coupling, consumer.source))
        per_block = consumer.source.size // consumer.groups
        block = channel // per_block
        outputs = output_classes(coupling, consumer)
        if outputs is not None:
            felt = ~owners.swallowed(block, unit, outputs)
            channel, unit, block = channel[felt], unit[felt], block[felt]
        if not len(channel):
            continue
        taps = consumer.features // per_block
        features = ((channel - block * per_block)[:, None] * taps + np.arange(taps)).reshape(-1)
        unit, block = np.repeat(unit, taps), np.repeat(block, taps)
        order = np.lexsort((features, block, unit))
        found.append(Footprint(consumer, unit[order], block[order], features[order]))
    return found
