"""The data files of a saved model, streamed from where the weights are."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from onnxprune.graph.atomic import AtomicFiles
from onnxprune.graph.external import Span, entry
from onnxprune.graph.layout import Placement
from onnxprune.graph.model import Model
from onnxprune.graph.tensors import all_tensors, content_size, is_external

_LARGE = 1 << 20  # bytes from which on a tensor starts at a page that can be mapped, on Windows (64 KiB) too
_CHUNK = 1 << 24  # bytes between two chances to interrupt
_NO_KERNEL_COPY = {errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF, errno.EPERM}


@dataclass(frozen=True)
class Written:
    """Where content lies in the new data files (by position in `all_tensors`), and SHA-1s where asked for."""

    spans: dict[int, Span]
    checksums: dict[Path, str]


def write_data(model: Model, placement: Placement, files: AtomicFiles) -> Written:
    """Write the data files.

    Content is copied or computed one tensor at a time. Tensors that shared a range of a source file share it
    again.
    """
    writers: dict[Path, _DataWriter] = {}
    spans: dict[int, Span] = {}
    summed: set[Path] = set()
    for index, tensor in enumerate(all_tensors(model.proto)):
        target = placement.files.get(index)
        if target is None:
            continue
        if target not in writers:
            writers[target] = _DataWriter(target, files.create(target))
        if is_external(tensor) and not model.is_pending(tensor):
            spans[index] = writers[target].copy(model.data.span(tensor))
        else:
            spans[index] = writers[target].write(content_size(tensor), model.content(tensor))
        if entry(tensor, "checksum") is not None:
            summed.add(target)
    for writer in writers.values():
        writer.file.flush()
    return Written(spans, {target: writers[target].checksum() for target in summed})


class _DataWriter:
    """One data file being written; every tensor starts at an offset that suits its size."""

    def __init__(self, target: Path, file: BinaryIO) -> None:
        self.target = target
        self.file = file
        self.end = 0
        self.copied: dict[Span, Span] = {}

    def write(self, length: int, content: Iterable[bytes | memoryview]) -> Span:
        span = self._next(length)
        self.file.seek(span.offset)
        for chunk in content:
            self.file.write(chunk)
        return span

    def copy(self, source: Span) -> Span:
        """Copy a range of another file, once."""
        if source not in self.copied:
            self.copied[source] = span = self._next(source.length)
            self.file.flush()
            with source.path.open("rb") as data:
                _copy_range(data.fileno(), source.offset, self.file.fileno(), span.offset, source.length)
        return self.copied[source]

    def checksum(self) -> str:
        """SHA-1 of the whole file, which is what ONNX's key `checksum` holds."""
        self.file.seek(0)
        return hashlib.file_digest(self.file, "sha1").hexdigest()  # type: ignore[arg-type]

    def _next(self, length: int) -> Span:
        span = Span(self.target, aligned(self.end, length), length)
        self.end = span.offset + length
        return span


def aligned(end: int, length: int) -> int:
    """Where a tensor of `length` bytes starts in a data file that has `end` bytes so far."""
    # nothing after the last byte: an empty tensor must not point behind the end
    step = 1 << 16 if length >= _LARGE else 64 if length else 1
    return -(-end // step) * step


def _copy_range(source: int, start: int, target: int, offset: int, length: int) -> None:
    """Copy between files inside the kernel where it can, so that weights never pass through this process."""
    done = 0
    while done < length and hasattr(os, "copy_file_range"):
        try:
            count = os.copy_file_range(source, target, min(_CHUNK, length - done), start + done, offset + done)
        except OSError as error:
            if error.errno not in _NO_KERNEL_COPY:
                raise
            break
        if count == 0:
            break
        done += count
    while done < length:
        os.lseek(source, start + done, os.SEEK_SET)
        chunk = os.read(source, min(_CHUNK, length - done))
        if not chunk:
            raise OSError(errno.EIO, "the source's data file became shorter while it was copied")
        os.lseek(target, offset + done, os.SEEK_SET)
        while chunk:
            count = os.write(target, chunk)
            chunk = chunk[count:]
            done += count
