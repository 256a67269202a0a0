"""Arrays kept on disk by what they follow from."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from onnxprune.runtime.cache import ArrayCache, default_folder

KEY = {"model": "a", "seed": 1, "options": {"bind": {"batch": 2}}}
ARRAYS = {"mean x/y:1": np.arange(3.0), "second": np.eye(2), "count": np.asarray(7)}


def test_what_was_stored_comes_back_as_it_was(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path / "new" / "folder")
    assert cache.load(KEY) is None
    cache.store(KEY, ARRAYS)
    found = cache.load(KEY)
    assert found is not None
    assert {name: (a.dtype, a.tolist()) for name, a in found.items()} == {
        name: (a.dtype, a.tolist()) for name, a in ARRAYS.items()
    }
    assert cache.load({**KEY, "seed": 2}) is None
    assert cache.load(dict(reversed(KEY.items()))) is not None


def test_no_folder_keeps_nothing() -> None:
    cache = ArrayCache(None)
    cache.store(KEY, ARRAYS)
    assert cache.load(KEY) is None


def test_the_longest_unused_goes_first(tmp_path: Path) -> None:
    kilobyte = {"x": np.zeros(128)}
    roomy = ArrayCache(tmp_path)
    for number in range(4):
        roomy.store({"n": number}, kilobyte)
        file = max(tmp_path.glob("*.npz"), key=lambda path: path.stat().st_mtime)
        os.utime(file, (number, number))
    assert roomy.load({"n": 1}) is not None  # used now
    size = file.stat().st_size
    ArrayCache(tmp_path, limit=3 * size).store({"n": 4}, kilobyte)
    assert [number for number in range(5) if roomy.load({"n": number}) is not None] == [1, 3, 4]


def test_what_is_larger_than_the_limit_is_kept_alone(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path, limit=1)
    cache.store({"n": 0}, ARRAYS)
    cache.store({"n": 1}, ARRAYS)
    assert cache.load({"n": 0}) is None
    assert cache.load({"n": 1}) is not None


def test_the_folder_is_the_platforms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ONNXPRUNE_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    found = {}
    for platform in ("linux", "win32", "darwin"):
        monkeypatch.setattr(sys, "platform", platform)
        found[platform] = default_folder()
    assert found == {
        "linux": tmp_path / "xdg" / "onnxprune",
        "win32": tmp_path / "local" / "onnxprune",
        "darwin": Path.home() / "Library" / "Caches" / "onnxprune",
    }
    monkeypatch.setenv("ONNXPRUNE_CACHE_DIR", str(tmp_path / "mine"))
    assert default_folder() == tmp_path / "mine"
