"""What a conversion does to a model's outputs on the same samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxprune.errors import SettingError
from onnxprune.graph.model import Model
from onnxprune.runtime.data import Data
from onnxprune.runtime.metrics.judge import DEFAULT_BATCH, session_of
from onnxprune.runtime.ort import RunOptions, run


@dataclass(frozen=True)
class OutputError:
    """Of one output over all samples: the root mean square error as a share of the output's own root mean square, the
    largest difference, and how many values are NaN or infinite now and were not before.
    """

    name: str
    relative: float
    largest: float
    broken: int


def output_errors(
    before: Model, after: Model, data: Data, *, batch: int | None = None, options: RunOptions | None = None
) -> list[OutputError]:
    """For every output of real numbers. Raises SettingError for data without samples."""
    options = options or RunOptions()
    sessions = [session_of(model, options) for model in (before, after)]
    names = [output.name for output in sessions[0].get_outputs()]
    sums = {name: np.zeros(4) for name in names}
    seen = 0
    for item in data.batches(batch or DEFAULT_BATCH, pad=True):
        found = [run(session, names, item.feeds) for session in sessions]
        for name, old, new in zip(names, *found, strict=True):
            if not isinstance(old, np.ndarray) or old.dtype.kind not in "fV" or not old.size:
                sums.pop(name, None)
                continue
            _add(sums[name], old.astype(np.float64), new.astype(np.float64))
        seen += item.size
    if not seen:
        raise SettingError(f"{data.origin}: no batch could be made of it", remedy="give more samples")
    return [
        OutputError(name, float((squares / max(whole, 1e-30)) ** 0.5), float(largest), int(broken))
        for name, (squares, whole, largest, broken) in sums.items()
    ]


def _add(sums: np.ndarray, old: np.ndarray, new: np.ndarray) -> None:
    there = np.isfinite(old)
    broken = there & ~np.isfinite(new)
    there &= ~broken
    apart = np.abs(old[there] - new[there])
    sums[0] += (apart**2).sum()
    sums[1] += (old[there] ** 2).sum()
    sums[2] = max(sums[2], apart.max(initial=0))
    sums[3] += int(broken.sum())
