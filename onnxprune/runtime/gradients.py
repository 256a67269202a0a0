"""What gradients say of stored tensors, as plain data: for each index of each axis, what the loss would feel of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

BY_AXIS = Mapping[str, Mapping[int, np.ndarray]]


@dataclass(frozen=True)
class Gradients:
    """By stored tensor and axis one number per index (float64), averaged over batches of `samples` samples of `origin`.

    `taylor` is the square of the sum of gradient times weight over all elements at the index, `fisher` the sum of their
    squares. recover/gradients.py computes them.
    """

    samples: int
    origin: str
    data_sha256: str
    settings: Mapping[str, object] = field(default_factory=dict)
    taylor: BY_AXIS = field(default_factory=dict, repr=False)
    fisher: BY_AXIS = field(default_factory=dict, repr=False)

    def summary(self) -> dict[str, object]:
        """What a plan or report says of the data, as JSON."""
        return {"samples": self.samples, "origin": self.origin, "data_sha256": self.data_sha256, **self.settings}
