"""What one pass of data through both models is for: the names of these, and which batches are held back."""

from __future__ import annotations

from onnxprune.runtime.data import Batch

DENSE, PRUNED = "dense", "pruned"
_HELD_BACK = 4  # one batch of so many


def is_held_back(batch: Batch, size: int) -> bool:
    """Whether a batch of data that comes in batches of `size` is one to judge by, not to fit to."""
    return batch.first // max(size, 1) % _HELD_BACK == 1
