"""One pass of data through one or several models, whose values are handed to accumulators batch by batch.

Memory stays bounded whatever the data's size: the accumulators, one batch of the values that they read, and what
ONNX Runtime takes for the models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from onnxprune.errors import SettingError
from onnxprune.graph.view import GraphView
from onnxprune.runtime.data import Data
from onnxprune.runtime.moments import Accumulator
from onnxprune.runtime.ort import RunOptions
from onnxprune.runtime.rows import Tokens
from onnxprune.runtime.tap import Tap

Progress = Callable[[int, int | None], None]
"""Called with the samples done, and how many there are where that is known."""

VALUES_LIMIT = 1 << 27
"""Bytes of values that a batch is chosen to have at most (`batch_for`)."""

LARGEST_BATCH = 64


def stream(
    models: Mapping[str, GraphView],
    accumulators: Sequence[Accumulator],
    data: Data,
    *,
    batch: int = 16,
    options: RunOptions | None = None,
    mask: str | None = None,
    dtypes: Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> int:
    """Feed every batch of `data` to each model and the values that the accumulators read to them; gives the samples.

    `mask` names an input, or any entry of the feeds, that is 1 where a token is real and 0 where it fills up; places
    of padding then do not count. `dtypes` are element types of values, where they are known.

    Raises SettingError for a value, an input or a mask that is not there and for data without samples, ModelError
    where a model does not run or makes NaN or infinity, which names the tensor.
    """
    reads = {pair for accumulator in accumulators for pair in accumulator.reads}
    taps = {
        name: Tap(view, [value for model, value in reads if model == name], options, dtypes)
        for name, view in models.items()
        if any(model == name for model, _ in reads)
    }
    seen = 0
    for item in data.batches(batch):
        where = f"samples {item.first} to {item.first + item.size - 1} of {data.origin}"
        values = {name: tap.values(item.feeds, where) for name, tap in taps.items()}
        tokens = tokens_of(mask, item.feeds)
        for accumulator in accumulators:
            accumulator.add(values, item, tokens)
        del values  # before the next batch is run
        seen += item.size
        if progress is not None:
            progress(seen, data.samples)
    if not seen:
        raise SettingError(f"{data.origin}: no batch could be made of it", remedy="give more samples")
    return seen


def batch_for(view: GraphView, shapes: Mapping[str, tuple[int, ...]], names: Sequence[str]) -> int:
    """A batch of samples for which the values `names` take at most VALUES_LIMIT bytes (1 to LARGEST_BATCH).

    `shapes` are those at the bound input sizes.
    """
    bound = max(1, min((shapes[name][0] for name in view.inputs if shapes.get(name)), default=1))
    elements = sum(float(np.prod(shapes[name])) for name in names if name in shapes) / bound
    return int(min(max(1.0, VALUES_LIMIT // max(4 * elements, 1)), LARGEST_BATCH))


def tokens_of(mask: str | None, feeds: Mapping[str, np.ndarray]) -> Tokens | None:
    """Which tokens of a batch are real, by the input `mask`; None without one. Raises SettingError as `stream` does."""
    if mask is None:
        return None
    if mask not in feeds:
        raise SettingError(f"--mask-input: there is no input {mask!r}", remedy="there are " + ", ".join(feeds))
    found = np.asarray(feeds[mask])
    if found.ndim != 2:
        raise SettingError(
            f"--mask-input: {mask!r} has the shape {list(found.shape)}", remedy="a mask is [samples, sequence]"
        )
    return Tokens(np.asarray(found != 0))
