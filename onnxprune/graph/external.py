"""External data: tensor content that lies in files beside the model, checked once and then memory-mapped."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto, TensorProto

from onnxprune.errors import ModelError
from onnxprune.graph.tensors import all_tensors, clear_content, content_size, is_external

# Keys whose value holds only for the file that they were written with. `checksum` is written anew, `basepath`
# is a leftover folder name, and the offsets of ONNX Runtime's prepacked weights would point at other weights.
_POSITIONAL = ("location", "offset", "length", "checksum", "basepath")
_PREPACKED = "prepacked_"


@dataclass(frozen=True, slots=True)
class Span:
    """`length` bytes from `offset` of the file `path` (resolved)."""

    path: Path
    offset: int
    length: int


def entry(tensor: TensorProto, key: str) -> str | None:
    """A value of the tensor's external_data, None where the key is missing."""
    return next((item.value for item in tensor.external_data if item.key == key), None)


def refer(tensor: TensorProto, location: str, offset: int, length: int, checksum: str | None = None) -> None:
    """Let the tensor point into an external file; its own content goes, keys that stay true are kept."""
    others = [
        (item.key, item.value)
        for item in tensor.external_data
        if item.key not in _POSITIONAL and not item.key.startswith(_PREPACKED)
    ]
    if checksum is not None:
        others.insert(0, ("checksum", checksum))
    clear_content(tensor)
    for key, value in [("location", location), ("offset", str(offset)), ("length", str(length)), *others]:
        tensor.external_data.add(key=key, value=value)
    tensor.data_location = TensorProto.EXTERNAL


class DataFiles:
    """The external data of one model: where each tensor lies, and its bytes as memory-mapped views.

    `path` is the model's file, None for a model that came without one (its external data cannot be found).
    `origin` is how messages call the model. Files are mapped when first read and stay mapped.
    """

    def __init__(self, path: Path | None, origin: str) -> None:
        self.path = path
        self.origin = origin
        self._files: dict[str, tuple[Path, int]] = {}  # location -> resolved file and its size
        self._maps: dict[Path, mmap.mmap] = {}

    @property
    def files(self) -> list[Path]:
        """The data files seen so far, resolved."""
        return [path for path, _ in self._files.values()]

    @contextmanager
    def named(self) -> Iterator[None]:
        """A ModelError raised in this block names the model."""
        try:
            yield
        except ModelError as error:
            if error.message.startswith(self.origin):
                raise
            raise ModelError(f"{self.origin}: {error.message}", remedy=error.remedy) from error

    def check(self, model: ModelProto, *, skip: Collection[str] = ()) -> None:
        """Find every external tensor: what is missing or cut off is known before work starts."""
        for tensor in all_tensors(model):
            if is_external(tensor) and tensor.name not in skip:
                self.span(tensor)

    def span(self, tensor: TensorProto) -> Span:
        """Where an external tensor's content lies; ModelError if missing, cut off, or outside the folder."""
        location = str(entry(tensor, "location") or "")  # protobuf gives bytes for what is not UTF-8
        path, file_size = self._files.get(location) or self._locate(location, tensor)
        try:
            offset = int(entry(tensor, "offset") or 0)
            length = int(entry(tensor, "length") or content_size(tensor))
        except ValueError:
            raise self._error(tensor, f"has an offset or length in {location!r} that is no number") from None
        if tensor.data_type == TensorProto.STRING:
            raise self._error(tensor, "holds strings, which ONNX does not allow in external data")
        if offset < 0 or length != content_size(tensor):
            raise self._error(
                tensor,
                f"of shape {list(tensor.dims)} needs {content_size(tensor)} bytes, but points at {length} "
                f"bytes at offset {offset} of {location!r}",
                remedy="The model does not fit its data file: copy or export both again.",
            )
        if offset + length > file_size:
            raise self._error(
                tensor,
                f"ends at byte {offset + length} of its data file {location!r}, which has only {file_size}",
                remedy="The data file was cut off or is another model's: copy or export it again.",
            )
        return Span(path, offset, length)

    def view(self, span: Span) -> memoryview:
        """The bytes of a span, mapped, not read."""
        if span.length == 0:
            return memoryview(b"")
        mapped = self._maps.get(span.path)
        if mapped is None:
            with span.path.open("rb") as file:
                mapped = self._maps[span.path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return memoryview(mapped)[span.offset : span.offset + span.length]

    def chunks(self, span: Span, size: int = 1 << 24) -> Iterator[memoryview]:
        """The bytes of a span in pieces of at most `size`."""
        view = self.view(span)
        for start in range(0, len(view), size):
            yield view[start : start + size]

    def _locate(self, location: str, tensor: TensorProto) -> tuple[Path, int]:
        if self.path is None:
            raise self._error(
                tensor,
                f"lies in the data file {location!r}, but the model was given without its folder",
                remedy="Load it from its path, or pass the folder of its data as `folder`.",
            )
        if not location:
            raise self._error(tensor, "is external, but names no data file")
        # A model that is itself a link (a download cache) may have its data beside the file that it links to.
        folders = {self.path.parent.resolve(), self.path.resolve().parent}
        try:
            resolved = (self.path.parent / location).resolve()
        except (OSError, RuntimeError, ValueError) as error:  # links in a circle, a NUL in the name
            raise self._error(tensor, f"points at {location!r}, which is no path ({error})") from error
        if os.path.isabs(location) or not any(folder in resolved.parents for folder in folders):
            raise self._error(
                tensor,
                f"points at {location!r}, outside the model's folder",
                remedy="Put the data file beside the model; onnxprune reads nothing else.",
            )
        try:
            status = resolved.stat()
        except OSError as error:
            raise self._error(
                tensor,
                f"lies in the data file {location!r}, which cannot be read ({error.strerror})",
                remedy="Copy the data file too: the model is both files.",
            ) from error
        if not stat.S_ISREG(status.st_mode) or not os.access(resolved, os.R_OK):
            raise self._error(tensor, f"lies in {location!r}, which is not a readable file")
        self._files[location] = found = (resolved, status.st_size)
        return found

    def _error(
        self,
        tensor: TensorProto,
        problem: str,
        *,
        remedy: str = "The file is damaged: copy or export it again.",
    ) -> ModelError:
        return ModelError(f"{self.origin}: tensor {tensor.name!r} {problem}", remedy=remedy)
