"""Arrays that are kept between passes: in memory up to a limit, beyond it in files that go with the object."""

from __future__ import annotations

import tempfile
import weakref
from pathlib import Path

import numpy as np


class Shelf:
    """Keeps arrays; what `keep` gives back reads like the array. `limit` is in bytes of memory."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held, self._count = limit, 0, 0
        self._folder: tempfile.TemporaryDirectory | None = None

    def keep(self, array: np.ndarray) -> np.ndarray:
        """The array, or a read-only map of a file that holds it."""
        if self._held + array.nbytes <= self._limit or not array.nbytes:
            self._held += array.nbytes
            weakref.finalize(array, self._freed, array.nbytes)
            return array
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="onnxprune-")
        path = Path(self._folder.name) / f"{self._count}.npy"
        self._count += 1
        np.save(path, array)
        found: np.ndarray = np.load(path, mmap_mode="r")
        weakref.finalize(found, path.unlink, missing_ok=True)
        return found

    def _freed(self, size: int) -> None:
        self._held -= size
