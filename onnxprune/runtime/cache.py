"""Results that took long to compute, kept on disk by what they follow from. Anything odd in a file is a miss."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune.errors import OutputError
from onnxprune.graph.atomic import AtomicFiles

log = logging.getLogger(__name__)

LIMIT = 4 << 30
_NAMES = "names"
_ODD = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, TypeError)


def default_folder() -> Path:
    """The platform's folder for caches: ONNXPRUNE_CACHE_DIR, else XDG_CACHE_HOME or what stands for it elsewhere."""
    if given := os.environ.get("ONNXPRUNE_CACHE_DIR"):
        return Path(given)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "onnxprune"


class ArrayCache:
    """Arrays by name, per key; a key is all that the arrays follow from, as plain data. `folder` None keeps nothing.

    Files take `limit` bytes together; beyond that those that were used longest ago go.
    """

    def __init__(self, folder: Path | None, limit: int = LIMIT) -> None:
        self._folder, self._limit = folder, limit

    def load(self, key: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
        """What was stored under `key`; None where nothing was, or where the file is broken."""
        path = self._path(key)
        if path is None or not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                names = json.loads(file[_NAMES].tobytes())
                found = {name: file[str(number)] for number, name in enumerate(names)}
            with suppress(OSError):
                path.touch()  # used now
            return found
        except _ODD as error:
            log.info("%s is broken and will be made anew: %s", path, error)
            return None

    def store(self, key: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Keep the arrays. What prevents it is logged, and nothing else: the work is done already."""
        path = self._path(key)
        if path is None:
            return
        names = np.frombuffer(json.dumps(list(arrays)).encode(), np.uint8)
        numbered = {str(number): array for number, array in enumerate(arrays.values())}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with AtomicFiles() as files:
                np.savez(files.create(path), **{_NAMES: names}, **numbered)  # type: ignore[arg-type]
            self._trim(path)
        except (OSError, OutputError) as error:
            log.warning("the cache was not written: %s", error)

    def _trim(self, newest: Path) -> None:
        files = [(path.stat().st_mtime, path.stat().st_size, path) for path in newest.parent.glob("*.npz")]
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self._limit or path == newest:
                break
            path.unlink(missing_ok=True)
            total -= size

    def _path(self, key: Mapping[str, Any]) -> Path | None:
        if self._folder is None:
            return None
        text = json.dumps(key, sort_keys=True)
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:40]}.npz"
