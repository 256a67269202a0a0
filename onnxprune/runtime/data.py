"""Samples to run a model on, as feed dictionaries in batches of any size.

    data = open_data("images.zip", view, preprocess="imagenet", samples=200, seed=1)
    for batch in data.batches(16):
        session.run(None, batch.feeds)

What is given may be a `.npz` (arrays by input name, `labels` optional), a folder or zip of `.npz` or of images with a
preprocessing description, or `script.py:function` yielding feed dictionaries, as Polygraphy's data loader scripts do
(`labels` optional too).
Which samples are used, and in which order, follows from `samples` and `seed` alone: files are often sorted by class.
"""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from onnxprune.errors import SettingError
from onnxprune.graph.view import GraphView
from onnxprune.runtime.functions import split
from onnxprune.runtime.inputs import InputSpec, batch_size, checked, input_specs

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """Feeds of `size` samples, the first of which is number `first` of its data.

    Padding that fills a fixed batch (see Data.batches) comes after those `size`. `labels` are of those `size` samples,
    None where none are known.
    """

    feeds: dict[str, np.ndarray]
    first: int
    size: int
    labels: np.ndarray | None = None


class Store(Protocol):
    """Where samples lie: as many as `len()` says, read one at a time in any order."""

    origin: str

    def __len__(self) -> int: ...

    def read(self, index: int) -> dict[str, np.ndarray]:
        """One sample: an array per input, without the batch axis."""

    def labels(self) -> np.ndarray | None:
        """One label per sample, None where none is known."""

    def digest(self, index: int) -> bytes:
        """A hash of all that one sample is made of, as it is stored."""


class Data(ABC):
    """Samples in a fixed order. `origin` is what a person calls them; `synthetic` says that nobody gave them."""

    origin: str
    synthetic: bool = False
    labels: np.ndarray | None = None

    @property
    @abstractmethod
    def samples(self) -> int | None:
        """How many there are, None where that shows only at the end."""

    @abstractmethod
    def batches(self, size: int, *, pad: bool = False) -> Iterator[Batch]:
        """All samples in batches of `size`, the last one smaller; of the model's own size where that is fixed.

        For a model of fixed batch what does not fill one is left out, or filled up with copies if `pad`.
        Raises SettingError where what is read does not fit the model's inputs.
        """

    @abstractmethod
    def part(self, start: int, stop: int | None = None) -> Data:
        """The samples from number `start` up to `stop`, to hold some back."""

    def take(self, numbers: np.ndarray) -> Data:
        """The samples of these numbers, in this order. Raises SettingError where they come in an order of their own."""
        raise SettingError(
            f"{self.origin}: its samples come in their own order", remedy="give a .npz, or a folder or zip of files"
        )

    @property
    @abstractmethod
    def sha256(self) -> str:
        """A hash (hex) of all that the batches hold, in their order."""

    def hold(self, limit: int) -> None:
        """Keep samples that were read in memory, up to `limit` bytes: for those who go through them several times.

        Parts that are taken afterwards share them. Does nothing where samples are made anew each time.
        """
        return


class Stored(Data):
    """Samples of a store, in the order of `order`."""

    def __init__(self, store: Store, specs: Mapping[str, InputSpec], order: Sequence[int], settings: str = "") -> None:
        self.origin = store.origin
        self.synthetic = bool(getattr(store, "synthetic", False))
        self._store, self._specs, self._settings = store, specs, settings
        self._order = np.asarray(order, np.int64)
        known = store.labels()
        self.labels = None if known is None else known[self._order]
        self._fixed = batch_size(specs)
        self._held = _Held(0)

    @property
    def samples(self) -> int:
        """How many there are."""
        return len(self._order)

    def batches(self, size: int, *, pad: bool = False) -> Iterator[Batch]:
        """See Data.batches. Files are read when their batch is."""
        step = self._fixed or size
        full = len(self._order) // step * step if self._fixed else len(self._order)
        if not pad and not full:
            raise SettingError(
                f"{self.origin}: {len(self._order)} samples do not fill one batch",
                remedy=f"the model takes batches of {step}",
            )
        if not pad and full < len(self._order):
            log.info("%s: the last %d samples do not fill a batch of %d", self.origin, len(self._order) - full, step)
        for first in range(0, len(self._order) if pad else full, step):
            chosen = self._order[first : first + step].tolist()
            read = [self._read(index) for index in chosen]
            if self._fixed:
                read += [read[-1]] * (step - len(read))
            labels = None if self.labels is None else self.labels[first : first + len(chosen)]
            yield Batch(self._stacked(read), first, len(chosen), labels)

    def part(self, start: int, stop: int | None = None) -> Stored:
        """The samples from number `start` up to `stop`."""
        return self.take(np.arange(len(self._order))[start:stop])

    def take(self, numbers: np.ndarray) -> Stored:
        """See Data.take."""
        part = Stored(self._store, self._specs, self._order[numbers].tolist(), self._settings)
        part._held = self._held
        return part

    def hold(self, limit: int) -> None:
        """See Data.hold."""
        self._held = _Held(limit)

    @cached_property
    def sha256(self) -> str:
        """A hash (hex) of the samples as they are stored, their order and what is made of them."""
        found = hashlib.sha256(self._settings.encode())
        for index in self._order.tolist():
            found.update(self._store.digest(index))
        return found.hexdigest()

    def _read(self, index: int) -> dict[str, np.ndarray]:
        found = self._held.samples.get(index)
        return self._held.keep(index, self._store.read(index)) if found is None else found

    def _stacked(self, read: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        feeds = {}
        for name, spec in self._specs.items():
            if not spec.dims:  # a scalar is the same for all samples
                feeds[name] = read[0][name]
                continue
            shapes = {sample[name].shape for sample in read}
            if len(shapes) > 1:
                one, other = sorted(shapes)[:2]
                raise SettingError(
                    f"{self.origin}: samples of {name!r} have the shapes {list(one)} and {list(other)}",
                    remedy="samples of one batch must agree: resize or pad them, or use batches of 1",
                )
            feeds[name] = np.stack([sample[name] for sample in read])
        return checked(self._specs, feeds, self.origin)


class _Held:
    """Samples by index, up to a number of bytes."""

    def __init__(self, limit: int) -> None:
        self.samples: dict[int, dict[str, np.ndarray]] = {}
        self._left = limit

    def keep(self, index: int, sample: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Keep the sample if it fits, and give it back."""
        size = sum(np.asarray(array).nbytes for array in sample.values())
        if size <= self._left:
            self._left -= size
            self.samples[index] = {name: np.array(array) for name, array in sample.items()}
        return sample


def chosen(count: int, samples: int | None, seed: int | None) -> list[int]:
    """Which of `count` samples are used, in order: `samples` of them (all if None), drawn with `seed`.

    A smaller number of the same seed is the beginning of a larger one. Without a seed, the first ones.
    """
    order = np.arange(count) if seed is None else np.random.default_rng(seed).permutation(count)
    picked: list[int] = order[:samples].tolist()
    return picked


def open_data(
    given: str | Path,
    view: GraphView,
    *,
    preprocess: str | None = None,
    samples: int | None = None,
    seed: int | None = 0,
) -> Data:
    """Data for a model (see the module). `samples` limits their number; `seed` shuffles them, None leaves them be.

    `preprocess` says how images become arrays (runtime/preprocess.py). A script's feeds come in its own order.

    Raises SettingError for data that is not there, empty, unreadable or does not fit the model's inputs, and
    RuntimeMissingError where images are given and Pillow is not installed.
    """
    specs = input_specs(view)
    if samples is not None and samples < 1:
        raise SettingError(f"--samples is {samples}", remedy="it is a whole number of at least 1")
    script = split(str(given))
    if script is not None:
        from onnxprune.runtime.script import ScriptData

        _refuse_preprocess(preprocess, str(given))
        return ScriptData(*script, specs, samples)
    path = Path(given)
    if not path.exists():
        raise SettingError(
            f"--data {given}: there is no such file or folder",
            remedy="give a .npz, a folder or zip of .npz or images, or script.py:function",
        )
    store, settings = _open_store(path, specs, preprocess)
    if not len(store):
        raise SettingError(f"--data {given}: it holds no samples", remedy="check that it is the file you mean")
    return Stored(store, specs, chosen(len(store), samples, seed), settings)


def _open_store(path: Path, specs: Mapping[str, InputSpec], preprocess: str | None) -> tuple[Store, str]:
    """The store behind a path, and what of the settings decides the samples' content."""
    from onnxprune.runtime.arrays import ArrayStore
    from onnxprune.runtime.files import IMAGES, open_files

    if path.suffix.lower() == ".npz":
        _refuse_preprocess(preprocess, str(path))
        return ArrayStore.of_file(path, specs), ""
    files = open_files(path)
    if {name.rpartition(".")[2].lower() for name in files.names} == {"npz"}:
        _refuse_preprocess(preprocess, str(path))
        return ArrayStore.of_files(files, specs), ""
    from onnxprune.runtime.images import ImageStore
    from onnxprune.runtime.preprocess import read_preprocess

    if any(name.lower().endswith(".npz") for name in files.names):
        raise SettingError(
            f"--data {path}: it holds both .npz files and images", remedy=f"give one kind: .npz or {', '.join(IMAGES)}"
        )
    if preprocess is None:
        raise SettingError(
            f"--data {path}: images need to be told how they become numbers",
            remedy='give --preprocess, for example "imagenet,size=256,crop=224" or "unit"',
        )
    how = read_preprocess(preprocess)
    return ImageStore(files, specs, how), repr(how)


def _refuse_preprocess(preprocess: str | None, given: str) -> None:
    if preprocess is not None:
        raise SettingError(
            f"--preprocess is for images, and {given} holds arrays", remedy="leave it out; arrays are fed as they are"
        )
