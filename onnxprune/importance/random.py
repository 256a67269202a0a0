"""The control: a criterion that knows nothing. What does not beat it is not worth its time."""

from __future__ import annotations

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.importance.registry import Context, criterion


@criterion("random")
def random(coupling: Coupling, context: Context) -> list[np.ndarray]:
    """Uniform in [0, 1), the same for the same seed and model."""
    rng = np.random.default_rng(context.seed)
    return [rng.random(group.size) for group in coupling.groups]
