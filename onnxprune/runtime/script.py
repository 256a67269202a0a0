"""Samples from a user's script: a function that yields feed dictionaries, as Polygraphy's data loader scripts do."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune.errors import SettingError
from onnxprune.runtime.arrays import LABELS
from onnxprune.runtime.data import Batch, Data
from onnxprune.runtime.functions import load_function
from onnxprune.runtime.inputs import InputSpec, batch_size, checked

DEFAULT = "load_data"  # what Polygraphy calls it


class ScriptData(Data):
    """What a script's function yields, each dictionary a batch of the size that it has.

    Where the inputs do not begin with one common size, a dictionary counts as one sample. An entry `labels` holds the
    samples' labels, for metrics.
    """

    def __init__(
        self,
        path: Path,
        function: str | None,
        specs: Mapping[str, InputSpec],
        stop: int | None = None,
        start: int = 0,
    ) -> None:
        self.origin = f"{path}:{function or DEFAULT}"
        self._function: Callable[[], Iterable[Mapping[str, Any]]] = load_function(path, function or DEFAULT, "--data")
        self._given = path, function
        self._specs, self._start, self._stop = specs, start, stop
        self._sha256: str | None = None

    @property
    def samples(self) -> int | None:
        """Unknown before the function ends: None."""
        return None

    def batches(self, size: int, *, pad: bool = False) -> Iterator[Batch]:
        """What the function yields, in its own batches; those that reach over the limit are cut, where they can be."""
        seen, content = 0, hashlib.sha256()
        for feeds in self._yielded():
            given, labels = self._without_labels(feeds)
            array_feeds = checked(self._specs, given, self.origin)
            count = self._count(array_feeds)
            if labels is not None and len(labels) != count:
                raise SettingError(
                    f"{self.origin}: it yields {len(labels)} labels with {count} samples", remedy="yield one a sample"
                )
            low, high = max(self._start - seen, 0), count if self._stop is None else min(count, self._stop - seen)
            whole = (low, high) == (0, count)
            if high > low and (whole or self._can_be_cut()):
                cut = {n: a if whole or not a.ndim else a[low:high] for n, a in array_feeds.items()}
                _hash(cut, content)
                mine = None if labels is None else labels[low:high]
                yield Batch(cut, max(seen - self._start, 0), high - low, mine)
            seen += count
            if self._stop is not None and seen >= self._stop:
                break
        if seen <= self._start:
            raise SettingError(f"{self.origin}: it yields no samples", remedy="yield a dictionary of arrays per batch")
        self._sha256 = content.hexdigest()

    def part(self, start: int, stop: int | None = None) -> ScriptData:
        """The samples from number `start` up to `stop`; the function is run from its beginning."""
        ends = [self._start + stop] if stop is not None else []
        ends += [self._stop] if self._stop is not None else []
        return ScriptData(*self._given, self._specs, min(ends, default=None), self._start + start)

    @property
    def sha256(self) -> str:
        """A hash (hex) of all that the function yields: it is run for that, unless it ran to its end before."""
        if self._sha256 is None:
            for _ in self.batches(1):
                pass
        return str(self._sha256)

    def _yielded(self) -> Iterator[Mapping[str, Any]]:
        try:
            given = iter(self._function())
            for feeds in given:
                if not isinstance(feeds, Mapping):
                    raise SettingError(
                        f"{self.origin}: it yields {type(feeds).__name__}, no dictionary",
                        remedy="yield a dictionary of arrays by input name",
                    )
                yield feeds
        except (SettingError, GeneratorExit):
            raise
        except Exception as error:
            raise SettingError(
                f"{self.origin}: it raised {type(error).__name__}: {error}", remedy="correct the script"
            ) from error

    def _without_labels(self, feeds: Mapping[str, Any]) -> tuple[dict[str, Any], np.ndarray | None]:
        """The feeds proper, and `labels` [N, ...] where the script gives them and no input has that name."""
        if LABELS not in feeds or LABELS in self._specs:
            return dict(feeds), None
        labels = np.asarray(feeds[LABELS])
        return {n: a for n, a in feeds.items() if n != LABELS}, labels if labels.ndim else labels[None]

    def _count(self, feeds: Mapping[str, np.ndarray]) -> int:
        firsts = {len(feeds[name]) for name, spec in self._specs.items() if spec.dims}
        return firsts.pop() if len(firsts) == 1 else 1

    def _can_be_cut(self) -> bool:
        try:
            return batch_size(self._specs) is None
        except SettingError:
            return False


def _hash(feeds: Mapping[str, np.ndarray], content: Any) -> None:
    for name, array in feeds.items():
        content.update(f"{name}:{array.dtype}:{array.shape}".encode())
        content.update(repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes())
