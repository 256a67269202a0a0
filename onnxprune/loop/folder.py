"""A run's folder: one run at a time, and every step's results whole or not there.

A step works in a folder of its own whose name begins with a dot, which takes its final name when all is done. What a
killed run leaves of unfinished steps is removed by the next one.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from onnxprune.errors import OutputError, RuntimeMissingError, SettingError
from onnxprune.graph.atomic import AtomicFiles

RUN, STEP, RESULT = "run.json", "step.json", "result.json"
_LOCK, _ATTEMPT = ".lock", ".attempt"
_CHUNK = 1 << 20


class RunFolder:
    """The folder at `path`, which is made if it is not there. Use it within `with folder.locked()`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def locked(self, wait: float = 0) -> Iterator[None]:
        """Hold the folder. Raises SettingError where another run still does after `wait` seconds.

        A run that was killed no longer does.
        """
        try:
            from filelock import FileLock, Timeout
        except ImportError as error:
            raise RuntimeMissingError(
                "runs need filelock, which is not installed", remedy="`pip install onnxprune[loop]`"
            ) from error
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {self.path}: {error.strerror}") from error
        lock = FileLock(self.path / _LOCK, timeout=wait)
        try:
            lock.acquire()
        except Timeout as error:
            raise SettingError(
                f"{self.path}: another run is at work in this folder",
                remedy="wait for it (--wait SECONDS), or give another --folder",
            ) from error
        except OSError as error:
            raise OutputError(f"cannot write to {self.path}: {error.strerror}") from error
        try:
            self._sweep()
            yield
        finally:
            lock.release()

    def claim(self, manifest: Mapping[str, Any], *, anew: bool) -> bool:
        """Make the folder that of the run which `manifest` describes; True where such a run was here before.

        Raises SettingError where it is another run's, or holds something else: unless `anew`, which removes what a
        run has left there.
        """
        there = self.read(RUN)
        if there is None and any(p.name != _LOCK for p in self.path.iterdir()):
            raise SettingError(f"{self.path} is no run's folder, and not empty", remedy="give another --folder")
        if there is not None and anew:
            self._clear()
            there = None
        if there is None:
            self.write(RUN, manifest)
            return False
        for key, what in (
            ("schema", "another version of recipes"),
            ("onnxprune", "another version of onnxprune"),
            ("model_digest", "another model"),
            ("recipe_sha256", "another recipe, or other --set"),
        ):
            if there.get(key) != manifest[key]:
                raise SettingError(
                    f"{self.path} is the folder of {what}", remedy="give another --folder, or --anew to start anew"
                )
        return True

    def read(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the folder, None where it is not there. Raises SettingError for a broken one."""
        try:
            found = json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise SettingError(
                f"{self.path / name} cannot be read: {error}", remedy="give another --folder, or --anew to start anew"
            ) from error
        if not isinstance(found, dict):
            raise SettingError(f"{self.path / name} is no JSON object", remedy="give another --folder, or --anew")
        return found

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file, whole or not at all."""
        with AtomicFiles() as files:
            files.create(self.path / name).write(json.dumps(content, indent=1).encode() + b"\n")

    @contextmanager
    def attempt(self, name: str) -> Iterator[Path]:
        """A folder to work in, which becomes `name` where the block ends without an error, and goes otherwise."""
        working = self.path / f".{name}.{os.getpid()}-{secrets.token_hex(4)}{_ATTEMPT}"
        working.mkdir()
        try:
            yield working
            final = self.path / name
            if final.exists():  # out of sight whole, before it is taken apart
                os.rename(final, working.with_name(f"{working.name}-old{_ATTEMPT}"))
            os.rename(working, final)
        finally:
            for left in self.path.glob(f"{working.name}*"):
                shutil.rmtree(left, ignore_errors=True)

    def _sweep(self) -> None:
        for left in self.path.glob(f".*{_ATTEMPT}"):
            shutil.rmtree(left, ignore_errors=True)

    def _clear(self) -> None:
        """Remove what runs make here, the file that says whose folder it is last."""
        for step in self.path.glob(f"*/{STEP}"):
            shutil.rmtree(step.parent)
        for file in sorted(self.path.iterdir(), key=lambda p: p.name == RUN):
            if file.is_file() and file.name != _LOCK:
                file.unlink()


def file_sha256(path: Path) -> str:
    """A hash (hex) of a file's content."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()
