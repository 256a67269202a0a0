"""From batches of outputs to one figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxprune.errors import ModelError, SettingError
from onnxprune.runtime.functions import load_function, split
from onnxprune.runtime.metrics.metric import Metric

_FLOATS = "fV"  # numpy's, and those of ml_dtypes


@dataclass(frozen=True)
class Reading:
    """Which output is judged: the one named `output` (None: the first), or what `postprocess` makes of all of them.

    `postprocess` is given a dictionary of arrays by output name, and gives an array that begins with the axis of
    samples.
    """

    output: str | None = None
    postprocess: Callable[[dict[str, np.ndarray]], Any] | None = None

    def read(self, outputs: Mapping[str, np.ndarray], samples: int) -> np.ndarray:
        """The array that is judged, of the first `samples` samples. Raises SettingError where there is none."""
        if self.postprocess is not None:
            try:
                found = np.asarray(self.postprocess(dict(outputs)))
            except Exception as error:
                raise SettingError(
                    f"--postprocess: it raised {type(error).__name__}: {error}",
                    remedy="it is called with a dictionary of outputs: " + _listed(outputs),
                ) from error
            name = "what --postprocess gives"
        else:
            name = self.output or next(iter(outputs))
            if name not in outputs:
                raise SettingError(
                    f"--output {name}: the model has no such output", remedy="it has " + _listed(outputs)
                )
            found = np.asarray(outputs[name])
        if not found.ndim or len(found) < samples:
            raise SettingError(
                f"{name} has the shape {list(found.shape)} for {samples} samples",
                remedy="its first axis must be that of samples: --postprocess makes it so",
            )
        if found.dtype.kind == "V":  # bfloat16 and the like: numpy's functions know float32
            found = found.astype(np.float32)
        return found[:samples]


def read_postprocess(given: str | None) -> Callable[..., Any] | None:
    """The function behind `script.py:function`. Raises SettingError where there is none."""
    if given is None:
        return None
    script = split(given)
    if script is None:
        raise SettingError(f"--postprocess {given}: not of the form script.py:function", remedy="give a script")
    return load_function(script[0], script[1] or "postprocess", "--postprocess")


class Meter:
    """Gathers the statistics of samples, and gives their figure at any time."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self._parts: list[np.ndarray] = []

    @property
    def samples(self) -> int:
        """How many were added."""
        return sum(len(part) for part in self._parts)

    def add(self, predicted: np.ndarray, wanted: np.ndarray | None, where: str) -> None:
        """Add a batch: outputs [N, ...], and labels (or the dense model's outputs) [N, ...].

        `where` says for messages which model and samples these are. Raises ModelError for outputs that are NaN or
        infinite, SettingError where labels are missing or the metric is NaN or not for such arrays.
        """
        if wanted is None:
            raise SettingError(
                f"--metric {self.metric.name} needs labels, and the data has none",
                remedy="give them as `labels` in the .npz or in what the script yields, or images in a folder per "
                "class; agreement, cosine, kl and snr need none",
            )
        if predicted.dtype.kind in _FLOATS and not np.isfinite(predicted).all():
            raise ModelError(
                f"{where}: the output is NaN or infinite", remedy="check the model, and the data's preprocessing"
            )
        if len(predicted) != len(wanted):
            raise SettingError(f"{where}: {len(predicted)} outputs for {len(wanted)} labels", remedy="check the data")
        parts = np.asarray(self.metric.parts(predicted, wanted))
        if parts.dtype.kind == "f" and not np.isfinite(parts).all():
            raise SettingError(f"{where}: the metric {self.metric.name} is NaN or infinite", remedy="check the metric")
        self._parts.append(parts)

    def parts(self) -> np.ndarray:
        """The statistics of all samples [N, ...]."""
        if not self._parts:
            raise SettingError("there are no samples to judge by", remedy="give more data")
        return np.concatenate(self._parts)

    def value(self) -> float:
        """The figure of all samples. Raises SettingError where it is NaN."""
        found = self.metric.value(self.parts())
        if np.isnan(found):
            raise SettingError(
                f"--metric {self.metric.name} is NaN on these {self.samples} samples",
                remedy="check that the labels vary, and that there are enough samples",
            )
        return found


def _listed(outputs: Mapping[str, np.ndarray]) -> str:
    return ", ".join(f"{name!r} {array.dtype}{list(array.shape)}" for name, array in outputs.items())
