"""Files that appear whole or not at all: written under a temporary name in the same folder, then renamed."""

from __future__ import annotations

import errno
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from onnxprune.errors import OutputError

_SUFFIX = ".onnxprune-tmp"
_REMEDIES = {
    errno.ENOSPC: "The disk is full: free some space or choose another folder.",
    errno.EDQUOT: "The disk quota is used up: free some space or choose another folder.",
    errno.EFBIG: "The file is larger than the file system or the process limits allow.",
    errno.ENOENT: "Create the folder first.",
    errno.EACCES: "Choose a folder that you may write to.",
    errno.EPERM: "Choose a folder that you may write to.",
    errno.EROFS: "The file system is read-only: choose another folder.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}


class AtomicFiles:
    """A set of files that replace their targets together, when the `with` block ends without an error.

    `create(target)` opens a temporary file beside the target for writing. On any error all of them are
    removed and every target is as it was; an OSError becomes an OutputError that names the target. A process
    that is killed leaves the targets as they were, and a temporary file that the next writer of the same
    target removes.

    Several files cannot be renamed as one. The last one created is the one that refers to the others: it is
    taken away before they change and put there when they have, so that it never stands beside files that are
    not its own.
    """

    def __init__(self) -> None:
        self._open: list[BinaryIO] = []
        self._pairs: list[tuple[Path, Path]] = []
        self._now: Path | None = None
        self._swept: set[Path] = set()

    def __enter__(self) -> AtomicFiles:
        return self

    def create(self, target: Path) -> BinaryIO:
        """A new temporary file for `target`, open for writing and reading."""
        self._now = target
        if target.exists() and not target.is_file():  # renaming over a device such as /dev/null would replace it
            kind = "a folder" if target.is_dir() else "no regular file"
            raise OutputError(f"cannot write {target}: it is {kind}", remedy="Name a file.")
        if target.parent not in self._swept:
            _sweep(target.parent)
            self._swept.add(target.parent)
        temporary = _temporary(target)
        file = open(temporary, "x+b")  # noqa: SIM115 - closed in __exit__
        self._open.append(file)
        self._pairs.append((temporary, target))
        return file

    @contextmanager
    def preview(self) -> Iterator[Path]:
        """A folder in which the files can be read under their final names, before they are there.

        They are moved there and back: onnx's checker takes hard links to a data file for an attack. No more can be
        written to them.
        """
        for file in self._open:
            file.close()
        folder = _temporary(self._pairs[-1][1])
        folder.mkdir()
        try:
            for temporary, target in self._pairs:
                os.rename(temporary, folder / target.name)
            yield folder
            for temporary, target in self._pairs:
                os.rename(folder / target.name, temporary)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @classmethod
    def probe(cls, target: Path) -> None:
        """Raise the OutputError that `create` would raise for `target`; leaves nothing."""
        with suppress(_ProbedError), cls() as files:
            files.create(target)
            raise _ProbedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for file in self._open:
                file.close()
            if error is None:
                self._rename()
        except OSError as failure:
            error = failure
        finally:
            for temporary, _ in self._pairs:
                with suppress(OSError):
                    temporary.unlink()
        if isinstance(error, OSError):
            raise OutputError(
                f"cannot write {self._now}: {error.strerror or error}", remedy=_REMEDIES.get(error.errno or 0)
            ) from error

    def _rename(self) -> None:
        kept: list[tuple[Path, Path]] = []  # what the targets were, to put back
        done: list[Path] = []
        try:
            if len(self._pairs) > 1:
                for temporary, target in reversed(self._pairs):
                    self._now = target
                    if os.path.lexists(target):
                        backup = temporary.with_name(temporary.name.replace(_SUFFIX, f"-old{_SUFFIX}"))
                        os.rename(target, backup)
                        kept.append((backup, target))
            for temporary, target in self._pairs:
                self._now = target
                os.replace(temporary, target)
                done.append(target)
        except BaseException:
            for target in done:
                target.unlink()
            for backup, target in reversed(kept):
                os.replace(backup, target)
            raise
        for backup, _ in kept:
            backup.unlink()


class _ProbedError(Exception):
    pass


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name}.{_owner(os.getpid())}-{secrets.token_hex(4)}{_SUFFIX}")


def _owner(process: int | str) -> str:
    host = re.sub(r"\W", "", platform.node())
    return f"{host}-{process}"


def _sweep(folder: Path) -> None:
    """Remove the temporary files that killed processes of this machine left in a folder."""
    if os.name != "posix":
        return
    ours = re.compile(rf"\..*\.{re.escape(_owner(''))}(\d+)-[0-9a-f]+{re.escape(_SUFFIX)}")
    for path in folder.iterdir():
        match = ours.fullmatch(path.name)
        if match and not _alive(int(match[1])):
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
