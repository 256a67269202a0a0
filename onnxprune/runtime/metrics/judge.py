"""Score models on data by one metric, the dense model once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune.errors import SettingError
from onnxprune.graph.model import Model
from onnxprune.runtime.data import Batch, Data
from onnxprune.runtime.functions import digest
from onnxprune.runtime.metrics.meter import Meter, Reading
from onnxprune.runtime.metrics.metric import Metric
from onnxprune.runtime.ort import RunOptions, make_session, run
from onnxprune.runtime.stream import Progress
from onnxprune.runtime.tap import data_folder

DEFAULT_BATCH = 32
KEPT = 1 << 30
"""Bytes of the dense model's outputs that are kept for metrics that compare with them; beyond, it runs again."""

Source = str | os.PathLike[str] | Model


@dataclass(frozen=True)
class Score:
    """A model's figure by `metric`, and the statistics of each sample [N, ...] that it is made of."""

    metric: Metric
    value: float
    parts: np.ndarray

    @property
    def samples(self) -> int:
        """How many samples it is of."""
        return len(self.parts)


class Judge:
    """Scores models of the dense model's inputs and outputs on `data`.

    `batch` samples are run at a time, in ONNX Runtime under `options`. Scores raise what `Meter` and `make_session`
    raise. Files are read anew at each score; models in memory are serialised.
    """

    def __init__(
        self,
        dense: Source,
        data: Data,
        metric: Metric,
        reading: Reading | None = None,
        *,
        options: RunOptions | None = None,
        batch: int | None = None,
    ) -> None:
        self.metric, self.data = metric, data
        self._dense, self._reading = dense, reading or Reading()
        self._options, self._batch = options or RunOptions(), batch or DEFAULT_BATCH
        self._kept: list[np.ndarray] | None = None

    @cached_property
    def dense(self) -> Score:
        """The dense model's own score; compared with itself where the metric compares with it."""
        return self.score(self._dense)

    def settings(self) -> dict[str, Any]:
        """What the figures follow from beside the models and the data, as plain data for keys of caches."""
        function = self._reading.postprocess
        return {
            "metric": self.metric.settings(), "output": self._reading.output,
            "postprocess": None if function is None else [function.__qualname__, digest(function)],
            "batch": self._batch, "provider": self._options.provider, "threads": self._options.threads,
        }  # fmt: skip

    def score(self, model: Source, progress: Progress | None = None) -> Score:
        """The score of a model given as a file or in memory."""
        meter = Meter(self.metric)
        for item, predicted, wanted in self._judged(model):
            meter.add(predicted, wanted, f"{_name(model)}, samples {item.first} to {item.first + item.size - 1}")
            if progress is not None:
                progress(item.first + item.size, self.data.samples)
        return Score(self.metric, meter.value(), meter.parts())

    def _judged(self, model: Source) -> Iterator[tuple[Batch, np.ndarray, np.ndarray | None]]:
        """Batches with the model's outputs and what they are compared with."""
        session = session_of(model, self._options)
        if self.metric.needs == "labels":
            for item in self.data.batches(self._batch, pad=True):
                yield item, self._outputs(session, item), item.labels
            return
        kept = iter(self._kept or ())
        dense = None if self._kept is not None else session_of(self._dense, self._options)
        gathered: list[np.ndarray] | None = [] if dense is not None else None
        held = 0
        for item in self.data.batches(self._batch, pad=True):
            wanted = next(kept) if dense is None else self._outputs(dense, item)
            if gathered is not None:
                held += wanted.nbytes
                gathered = [*gathered, wanted] if held <= KEPT else None
            yield item, self._outputs(session, item), wanted
        self._kept = self._kept if gathered is None else gathered

    def _outputs(self, session: Any, item: Batch) -> np.ndarray:
        names = [output.name for output in session.get_outputs()]
        inputs = [given.name for given in session.get_inputs()]
        unknown = [name for name in inputs if name not in item.feeds]
        if unknown:
            raise SettingError(
                f"the data has nothing for the input {unknown[0]!r}",
                remedy="give two models of the same inputs: " + ", ".join(item.feeds),
            )
        feeds = {name: item.feeds[name] for name in inputs}
        return self._reading.read(dict(zip(names, run(session, names, feeds), strict=True)), item.size)


def session_of(model: Source, options: RunOptions) -> Any:
    """A session of a file, or of a model in memory."""
    if isinstance(model, Model):
        return make_session(model.to_proto().SerializeToString(), options, folder=data_folder(model))
    return make_session(model, options)


def _name(model: Source) -> str:
    if isinstance(model, Model):
        return str(model.path or "the model")
    return Path(model).name
