"""The largest magnitude that each float value of a model reaches on data."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from onnxprune.errors import SettingError
from onnxprune.graph.shapes import Shapes
from onnxprune.graph.view import GraphView
from onnxprune.runtime.data import Data
from onnxprune.runtime.ort import RunOptions, make_session, run
from onnxprune.runtime.stream import Progress, batch_for
from onnxprune.runtime.tap import data_folder, exposing


def largest_magnitudes(
    view: GraphView,
    shapes: Shapes,
    data: Data,
    *,
    batch: int | None = None,
    options: RunOptions | None = None,
    progress: Progress | None = None,
) -> dict[str, float]:
    """By name, for the float32 values that nodes of the main graph make and for its inputs; infinities do not count.

    A mask may hold them, and both types of 16 bits have them. Raises
    SettingError for data without samples and ModelError where the model does not run.
    """
    names = [
        name for node in view.nodes if node.scope.is_main for name in node.outputs
        if name and shapes.dtype.get(name) == TensorProto.FLOAT and name not in view.fixed
    ]  # fmt: skip
    session = make_session(
        exposing(view.model, names), options or RunOptions(), folder=data_folder(view.model), optimise=False
    )
    found = dict.fromkeys([*(n for n in view.inputs if shapes.dtype.get(n) == TensorProto.FLOAT), *names], 0.0)
    seen = 0
    for item in data.batches(batch or batch_for(view, shapes.shape, names)):
        values = dict(zip(names, run(session, names, item.feeds), strict=True)) | item.feeds
        for name in found:
            found[name] = max(found[name], _largest(values[name]))
        seen += item.size
        if progress is not None:
            progress(seen, data.samples)
    if not seen:
        raise SettingError(f"{data.origin}: no batch could be made of it", remedy="give more samples")
    return found


def _largest(array: np.ndarray) -> float:
    magnitudes = np.abs(array)
    return float(magnitudes.max(initial=0, where=np.isfinite(magnitudes)))
