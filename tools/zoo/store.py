"""What is known about the files of a zoo: manifest.json and failures.json, always whole on disk."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any


class JsonStore:
    """A JSON object on disk that is replaced in one step, so that a killed run leaves the last whole one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._entries: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def __getitem__(self, key: str) -> Any:
        return self._entries[key]

    def entries(self) -> dict[str, Any]:
        return dict(self._entries)

    def put(self, key: str, value: Any) -> None:
        with self._lock:
            self._entries[key] = value
            self._write()

    def drop(self, key: str) -> None:
        with self._lock:
            if self._entries.pop(key, None) is not None:
                self._write()

    def _write(self) -> None:
        unfinished = self._path.with_name(f".{self._path.name}.partial")
        unfinished.write_text(json.dumps(self._entries, indent=1, sort_keys=True) + "\n")
        os.replace(unfinished, self._path)
