"""A folder or a zip of files, read alike: names in order, and the bytes of one."""

from __future__ import annotations

import zipfile
from abc import ABC, abstractmethod
from pathlib import Path, PurePosixPath

from onnxprune.errors import SettingError

IMAGES = ("jpg", "jpeg", "png", "bmp", "webp", "tif", "tiff", "gif", "ppm", "pgm")
_KNOWN = frozenset((*IMAGES, "npz"))


class Files(ABC):
    """The data files below `root`: `names` are relative, with `/`, sorted; without hidden files and other kinds."""

    def __init__(self, root: Path, names: list[str]) -> None:
        self.root = root
        self.names = sorted(name for name in names if _is_data(name))

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The content of a file. Raises SettingError, which names it, where it cannot be read."""


class Folder(Files):
    """Files below a folder, however deep."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()])

    def read(self, name: str) -> bytes:
        """See Files.read."""
        try:
            return (self.root / name).read_bytes()
        except OSError as error:
            raise _unreadable(self.root / name, error) from error


class Zip(Files):
    """Files in a zip archive."""

    def __init__(self, root: Path) -> None:
        try:
            self._archive = zipfile.ZipFile(root)
        except (OSError, zipfile.BadZipFile) as error:
            raise _unreadable(root, error) from error
        super().__init__(root, [info.filename for info in self._archive.infolist() if not info.is_dir()])

    def read(self, name: str) -> bytes:
        """See Files.read."""
        try:
            return self._archive.read(name)
        except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise _unreadable(self.root / name, error) from error


def open_files(path: Path) -> Files:
    """The files of a folder or zip. Raises SettingError for what is neither, and where no data file is in it."""
    if path.is_dir():
        files: Files = Folder(path)
    elif zipfile.is_zipfile(path):
        files = Zip(path)
    else:
        raise SettingError(
            f"--data {path}: neither a .npz, a folder, a zip nor script.py:function",
            remedy="put images into a folder or a zip, and arrays into a .npz",
        )
    if not files.names:
        raise SettingError(f"--data {path}: it holds no data", remedy=f"files that are read: npz, {', '.join(IMAGES)}")
    return files


def _is_data(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return not hidden and path.suffix.lower().lstrip(".") in _KNOWN


def _unreadable(path: Path, error: Exception) -> SettingError:
    return SettingError(f"--data {path}: it cannot be read: {error}", remedy="check that the file is whole")
