"""Calibration: statistics for every consumer of every group, from one pass of data through ONNX Runtime.

    statistics = calibrate(coupling, open_data("samples.npz", coupling.view), kinds=("second", "gram"))

Memory: the accumulators (`memory` bytes at most in one pass, or those of a single consumer where that is more; what
does not fit waits for another pass), one batch of activations (128 MB at most where the batch is chosen here, one
sample's where that is more), which ONNX Runtime holds once or twice more, blocks of some 16 to 32 MB, and what ONNX
Runtime takes for the model. It does not grow with the data. MobileNetV2 at 224 pixels, all kinds at once, peaks at
0.66 GB resident, 0.08 GB before it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune import __version__
from onnxprune.coupling.coupling import Coupling
from onnxprune.errors import SettingError
from onnxprune.runtime.cache import ArrayCache
from onnxprune.runtime.consumers import Consumer, consumers_of, sources_of
from onnxprune.runtime.data import Data
from onnxprune.runtime.moments import CHANNEL_KINDS, Accumulator, ChannelSums, RowProducts
from onnxprune.runtime.ort import RunOptions, onnxruntime
from onnxprune.runtime.pairs import PairReader
from onnxprune.runtime.rows import Sampling
from onnxprune.runtime.statistics import GRAM, KINDS, Statistics
from onnxprune.runtime.stream import Progress, batch_for, stream
from onnxprune.runtime.synthetic import SyntheticData

log = logging.getLogger(__name__)

MEMORY = 2 << 30
POSITIONS = 64
"""Places that each sample adds to products of rows, unless told otherwise."""
_FORMAT = 1


def calibrate(
    coupling: Coupling,
    data: Data | None = None,
    kinds: Collection[str] = CHANNEL_KINDS,
    *,
    positions: int | None = POSITIONS,
    seed: int = 0,
    mask: str | None = None,
    batch: int | None = None,
    options: RunOptions | None = None,
    cache: Path | None = None,
    memory: int = MEMORY,
    every: bool = False,
    progress: Progress | None = None,
) -> Statistics:
    """Statistics of the given `kinds` (statistics.KINDS) for all consumers of the coupling's groups.

    With `every`, also for those that read what no group has a part in.

    Without `data`, of made-up inputs, and the result says so. `positions` limits the rows that each sample adds to
    `gram` (None: all places), drawn with `seed`. `mask` names an input [samples, sequence] that is 0 where a token
    only fills up: such places do not count. `batch` is chosen by memory where it is None. `cache` is a folder in
    which results are kept by the hashes of model and data and by these settings (see runtime/cache.py).

    The numbers do not depend on the batch beyond what ONNX Runtime's own rounding does.

    Raises SettingError for a kind that there is not and what `stream` raises it for, ModelError where an activation
    is NaN or infinite, which names the tensor.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise SettingError(f"there are no statistics of kind {unknown[0]!r}", remedy=f"there are {', '.join(KINDS)}")
    options = options or RunOptions()
    if data is None:
        data = SyntheticData(coupling.view, coupling.bindings, seed=seed)
        log.warning("no data is given: statistics are those of made-up inputs, which say little of real ones")
    consumers = consumers_of(coupling, every=every)
    wanted = [kind for kind in KINDS if kind in kinds]
    sampling = Sampling(positions, seed)
    batch = batch or batch_for(coupling.view, coupling.shapes.shape, [s.tensor for s in sources_of(consumers)])
    store = ArrayCache(None if cache is None else cache / "statistics")
    keys = {kind: _key(coupling, data, kind, sampling, mask, batch, options, cache, every) for kind in wanted}
    arrays: dict[str, np.ndarray] = {}
    missing, samples = [], 0
    for kind in wanted:
        found = store.load(keys[kind])
        if found is None or "samples" not in found:
            missing.append(kind)
        else:
            samples = int(found.pop("samples"))
            arrays.update(found)
    if missing and consumers:
        fresh, samples = _collect(
            coupling, consumers, missing, data, sampling, memory,
            batch=batch, options=options, mask=mask, progress=progress,
        )  # fmt: skip
        for kind, mine in fresh.items():
            store.store(keys[kind], {**mine, "samples": np.asarray(samples)})
            arrays.update(mine)
    settings = {"positions": positions, "seed": seed, "mask": mask}
    return Statistics(consumers, samples, data.origin, data.synthetic, data.sha256, settings, arrays)


def _collect(
    coupling: Coupling,
    consumers: tuple[Consumer, ...],
    kinds: Sequence[str],
    data: Data,
    sampling: Sampling,
    memory: int,
    **how: Any,
) -> tuple[dict[str, dict[str, np.ndarray]], int]:
    """Arrays by kind, and the samples seen."""
    channels = [kind for kind in kinds if kind != GRAM]
    found: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in kinds}
    samples = 0
    for bundle in _bundles(consumers, channels, GRAM in kinds, sampling, memory):
        samples = stream({"": coupling.view}, list(bundle.values()), data, dtypes=coupling.shapes.dtype, **how)
        for (what, key), accumulator in bundle.items():
            result = accumulator.result()
            if what == GRAM:
                found[GRAM] |= {
                    f"gram {key}": result["second"], f"gram-mean {key}": result["mean"],
                    f"gram-rows {key}": result["rows"],
                }  # fmt: skip
            else:
                for kind in channels:
                    found[kind] |= {f"{kind} {key}": result[kind], f"count {key}": result["count"]}
    return found, samples


_Bundle = dict[tuple[str, str], "ChannelSums | RowProducts"]


def _bundles(
    consumers: tuple[Consumer, ...], channels: Sequence[str], gram: bool, sampling: Sampling, memory: int
) -> Iterator[_Bundle]:
    """The accumulators of one pass each: all in one, or as few as `memory` allows. The next are made when they run."""
    bundle: _Bundle = {}
    if channels:
        bundle = {("channels", source.key): ChannelSums(source, channels) for source in sources_of(consumers)}
    held = _held(bundle.values())
    seen: set[str] = set()
    for consumer in consumers if gram else ():
        if consumer.key in seen:
            continue
        seen.add(consumer.key)
        size = RowProducts.bytes_for(consumer)
        if bundle and held + size > memory:
            yield bundle
            bundle, held = {}, 0
        bundle[GRAM, consumer.key] = RowProducts(PairReader(consumer, sampling))
        held += size
    if bundle:
        yield bundle


def _held(accumulators: Collection[Accumulator]) -> int:
    return sum(accumulator.nbytes for accumulator in accumulators)


def _key(
    coupling: Coupling,
    data: Data,
    kind: str,
    sampling: Sampling,
    mask: str | None,
    batch: int,
    options: RunOptions,
    cache: Path | None,
    every: bool,
) -> dict[str, Any]:
    """All that the statistics of a kind follow from. Hashing the data is left out where nothing is kept."""
    if cache is None:
        return {}
    key: dict[str, Any] = {
        "format": _FORMAT, "onnxprune": __version__, "onnxruntime": onnxruntime().__version__,
        "model": coupling.view.model.digest, "analysis": coupling.options, "data": data.sha256, "kind": kind,
        "mask": mask, "batch": batch, "every": every, "provider": options.provider, "threads": options.threads,
    }  # fmt: skip
    return key | ({"positions": sampling.positions, "seed": sampling.seed} if kind == GRAM else {})
