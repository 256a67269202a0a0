"""Samples from .npz files: arrays by input name, the first axis counts samples, `labels` is optional.

Nothing is read whole: arrays that are stored as they are get mapped into memory where they lie, compressed ones (and
archives inside an archive) are unpacked once into a temporary folder and mapped there.
"""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from onnxprune.errors import SettingError
from onnxprune.runtime.files import Files, Folder
from onnxprune.runtime.inputs import InputSpec, check_names, converted, listed

LABELS = "labels"
_OPEN_FILES = 16
_LOCAL_HEADER = 30  # bytes of a zip member's own header, before its name and extra field
_CHUNK = 1 << 20


class ArrayStore:
    """Samples of one or several .npz files, one after another."""

    def __init__(
        self, origin: str, paths: Sequence[Callable[[], Path]], specs: Mapping[str, InputSpec], spool: Spool
    ) -> None:
        self.origin = origin
        self._paths, self._specs, self._spool = paths, specs, spool
        self._open: OrderedDict[int, dict[str, np.ndarray]] = OrderedDict()
        counts = [self._count(number) for number in range(len(paths))]
        self._ends = np.cumsum(counts)

    @classmethod
    def of_file(cls, path: Path, specs: Mapping[str, InputSpec]) -> ArrayStore:
        """The samples of one file."""
        return cls(str(path), [lambda: path], specs, Spool())

    @classmethod
    def of_files(cls, files: Files, specs: Mapping[str, InputSpec]) -> ArrayStore:
        """The samples of all .npz files of a folder or zip, in the order of their names."""
        spool = Spool()

        def opener(name: str) -> Callable[[], Path]:
            if isinstance(files, Folder):
                return lambda: files.root / name
            return lambda: spool.keep(name, lambda: files.read(name))

        return cls(str(files.root), [opener(name) for name in files.names], specs, spool)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def read(self, index: int) -> dict[str, np.ndarray]:
        """One sample, without the batch axis."""
        arrays, row = self._at(index)
        return {name: array[row] if array.ndim else array[()] for name, array in arrays.items() if name in self._specs}

    def labels(self) -> np.ndarray | None:
        """The `labels` of all files, None where any has none."""
        if LABELS in self._specs or not len(self):
            return None
        found = []
        for number in range(len(self._paths)):
            arrays = self._arrays(number)
            if LABELS not in arrays:
                return None
            found.append(np.array(arrays[LABELS]))
        return np.concatenate(found)

    def digest(self, index: int) -> bytes:
        """A hash of the sample's arrays, their types and shapes."""
        found = hashlib.sha256()
        for name, array in self.read(index).items():
            found.update(f"{name}:{array.dtype}:{array.shape}".encode())
            found.update(np.ascontiguousarray(array).tobytes())
        return found.digest()

    def _at(self, index: int) -> tuple[dict[str, np.ndarray], int]:
        number = int(np.searchsorted(self._ends, index, "right"))
        return self._arrays(number), index - (int(self._ends[number - 1]) if number else 0)

    def _arrays(self, number: int) -> dict[str, np.ndarray]:
        if number in self._open:
            self._open.move_to_end(number)
        else:
            self._open[number] = _mapped(self._paths[number](), self._spool)
            if len(self._open) > _OPEN_FILES:
                self._open.popitem(last=False)
        return self._open[number]

    def _count(self, number: int) -> int:
        """Samples of a file. Raises SettingError for names, types or shapes that the model does not have."""
        arrays, origin = self._arrays(number), str(self._paths[number]())
        inputs = {name: array for name, array in arrays.items() if name in self._specs or name != LABELS}
        check_names(self._specs, inputs, origin)
        counts = {}
        for name, spec in self._specs.items():
            array = inputs[name]
            fits = array.ndim == len(spec.dims) and all(
                not isinstance(dim, int) or dim == size
                for dim, size in zip(spec.dims[1:], array.shape[1:], strict=False)
            )
            if not fits:
                sizes = ["N", *("?" if not isinstance(d, int) else str(d) for d in spec.dims[1:])]
                raise SettingError(
                    f"{origin}: {name!r} is {array.dtype}{list(array.shape)}",
                    remedy=f"for N samples the model wants {spec.dtype}[{','.join(sizes) if spec.dims else ''}]",
                )
            converted(array[:1] if array.ndim else array, spec, origin)
            if spec.dims:
                counts[name] = len(array)
        if LABELS in arrays and LABELS not in self._specs:
            counts[LABELS] = len(np.atleast_1d(arrays[LABELS]))
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{name!r} {count}" for name, count in counts.items())
            raise SettingError(
                f"{origin}: its arrays differ in their number of samples: {told}",
                remedy=f"the first axis counts samples; the model's inputs: {listed(self._specs)}",
            )
        return next(iter(counts.values()), 1)


class Spool:
    """A temporary folder for what must be unpacked before it can be mapped; gone with the object."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._kept: dict[str, Path] = {}

    def keep(self, key: str, content: Callable[[], bytes] | IO[bytes]) -> Path:
        """The file that holds `content`, written when `key` is asked for the first time."""
        if key not in self._kept:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="onnxprune-data-")
            path = Path(self._folder.name) / f"{len(self._kept)}"
            with open(path, "wb") as file:
                if callable(content):
                    file.write(content())
                else:
                    while chunk := content.read(_CHUNK):
                        file.write(chunk)
            self._kept[key] = path
        return self._kept[key]


def _mapped(path: Path, spool: Spool) -> dict[str, np.ndarray]:
    """The arrays of a .npz by name, memory-mapped. Raises SettingError, which names the file and the array."""
    name = ""
    try:
        with zipfile.ZipFile(path) as archive:
            found = {}
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                if info.compress_type == zipfile.ZIP_STORED:
                    start = _content_start(path, info)
                    found[name] = _map_npy(path, start)
                else:
                    with archive.open(info) as member:
                        found[name] = _map_npy(spool.keep(f"{path}!{info.filename}", member), 0)
            return found
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        at = f", array {name!r}" if name else ""
        raise SettingError(f"--data {path}{at}: it cannot be read: {error}", remedy="write it anew with numpy.savez") \
            from error  # fmt: skip


def _content_start(path: Path, info: zipfile.ZipInfo) -> int:
    """Where a member's content begins: its own header repeats the name, with an extra field of another length."""
    with open(path, "rb") as file:
        file.seek(info.header_offset)
        header = file.read(_LOCAL_HEADER)
    return info.header_offset + _LOCAL_HEADER + int.from_bytes(header[26:28], "little") + int.from_bytes(
        header[28:30], "little"
    )  # fmt: skip


def _map_npy(path: Path, start: int) -> np.ndarray:
    """The array of a .npy that begins at byte `start` of a file. Raises ValueError for objects and broken headers."""
    formats = np.lib.format
    with open(path, "rb") as file:
        file.seek(start)
        version = formats.read_magic(file)
        read: Any = formats.read_array_header_1_0 if version == (1, 0) else formats.read_array_header_2_0
        shape, is_fortran, dtype = read(file)
        offset = file.tell()
        if dtype.hasobject:
            raise ValueError("it holds Python objects, which are not read")
        if 0 in shape or not shape:
            return np.fromfile(file, dtype, int(np.prod(shape))).reshape(shape)
    return np.memmap(path, dtype, "r", offset, shape, order="F" if is_fortran else "C")
