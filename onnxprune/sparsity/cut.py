"""Targets for what a Relu or Clip reads: beyond where it cuts, any value is as good as another.

Where the dense output lies below the cut, all that counts is that the sparse one does, too. So the target there is the
sparse layer's own output, as far as it lies below, and least squares is taken again: each round lowers the error behind
the cut, or leaves it (majorisation, as in repair/clipped.py; here masks are revised, too).
"""

from __future__ import annotations

import numpy as np

from onnxprune.runtime.bounds import Bounds
from onnxprune.runtime.keeping import KeptRows
from onnxprune.sparsity.sums import Sums

ROUNDS = 4


def freed(sums: Sums, bounds: Bounds, rows: KeptRows, w: np.ndarray) -> Sums:
    """Moments with the targets that weights `w` [groups, D, R], and the bias that goes with them, leave free."""
    bias = sums.bias(w) if sums.centred else np.zeros_like(sums.target_mean)
    given = sums.gain * np.matmul(rows.x, w.astype(np.float32)) + bias[:, None].astype(np.float32)
    shift = np.float32(0) if rows.shift is None else rows.shift
    apart = bounds.missing(given + shift, rows.target + shift) + given - rows.target
    cross = np.matmul(rows.x.transpose(0, 2, 1), apart).astype(np.float64) / rows.x.shape[1]
    return sums.moved(cross, apart.mean(axis=1, dtype=np.float64))
