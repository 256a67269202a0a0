"""Loading and saving models: any kind of source in, the user's layout of files out, never over the source."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError
from onnx import ModelProto

from onnxprune.errors import ModelError, OutputError, RuntimeMissingError
from onnxprune.graph.atomic import AtomicFiles
from onnxprune.graph.external import DataFiles
from onnxprune.graph.layout import Layout, place
from onnxprune.graph.mapped import Arrays, read_mapped
from onnxprune.graph.model import Model
from onnxprune.graph.names import unreadable_name
from onnxprune.graph.stream import write_model
from onnxprune.graph.wire import LARGEST_MESSAGE
from onnxprune.graph.writer import write_data

if TYPE_CHECKING:
    import onnx_graphsurgeon

log = logging.getLogger(__name__)

_MAPPED = 1 << 20  # bytes of a file from which on its weights stay in it

_FOREIGN = {  # what a file that is no ONNX model begins with -> what it is, and what to do
    b"version https://git-lfs": ("a Git LFS pointer", "Fetch the file itself with `git lfs pull`."),
    b"PK\x03\x04": ("a zip archive (perhaps a PyTorch checkpoint)", "Export it to ONNX first."),
    b"\x80\x02": ("a pickle (perhaps a PyTorch checkpoint)", "Export it to ONNX first."),
    b"\x89HDF": ("an HDF5 file (perhaps a Keras model)", "Convert it to ONNX first."),
    b"\x89PNG": ("a PNG image", "Give a binary .onnx file."),
    b"\x1f\x8b": ("a gzip archive", "Unpack it first."),
    b"<": ("an XML or HTML page", "Download the model file itself."),
}


@dataclass(frozen=True)
class Saved:
    """What `save` wrote: the model, its data files, and the names of tensors that had to leave the model."""

    path: Path
    data_files: tuple[Path, ...] = ()
    spilled: tuple[str, ...] = ()


def load(
    source: str | os.PathLike[str] | ModelProto | onnx_graphsurgeon.Graph | Model,
    *,
    folder: str | os.PathLike[str] | None = None,
) -> Model:
    """Load a model from a file, a ModelProto, an onnx-graphsurgeon graph, or a Model (given back as it is).

    External data stays on disk and is memory-mapped when it is read; that all of it is there is checked now. So do big
    weights in a file of some size (mapped.py): to the `Model` they are pending arrays. Do not write to a file in place
    while its Model is in use.
    `folder` is where the external data of a ModelProto lies. A ModelProto is referred to, not copied or
    changed. Raises ModelError for what cannot be read, is not ONNX, is cut off, or has external data that is
    missing, cut off or outside the model's folder.
    """
    if isinstance(source, Model):
        return source
    if isinstance(source, ModelProto):
        proto, path, origin, arrays = source, None, "model", None
    elif type(source).__module__.partition(".")[0] == "onnx_graphsurgeon":
        proto, path, origin, arrays = _from_graphsurgeon(source), None, "graph", None
    elif isinstance(source, str | os.PathLike):
        path = Path(source)
        (proto, arrays), origin = _read(path), str(path)
    else:
        raise TypeError(f"cannot load a model from {type(source).__name__}")
    _require_model(proto, origin)
    _require_text(proto, origin)
    data = DataFiles(path if folder is None else Path(folder) / "model.onnx", origin)
    with data.named():
        data.check(proto)
    return Model(proto, path, arrays, data=data)


def save(
    model: Model | ModelProto,
    path: str | os.PathLike[str],
    *,
    layout: Layout = "keep",
    overwrite: bool = True,
    check: Callable[[Path], None] | None = None,
    beside: Mapping[str, bytes] | None = None,
) -> Saved:
    """Write a model; it appears whole or not at all, and the files that it was loaded from are never touched.

    `layout`: "keep" leaves each tensor where it was (embedded, in the one data file, in one of several);
    "embedded" puts all into the model file; "single" puts initializers of 1 KiB and more into one data file;
    "many" gives each a file of its own. Data files lie beside the model and are named after it. A model that
    would pass protobuf's 2 GB gets a data file whatever the layout; `Saved.spilled` names those tensors, and
    a warning is logged. Pending arrays are computed one at a time. `check` is called with a path at which the
    complete model can be read before it takes its name, and may raise to prevent that. `beside` gives the
    names and contents of further files, which appear in the model's folder together with it. Raises OutputError
    where the output is one of the source's files, exists and `overwrite` is false, or cannot be written: then
    every file is as it was.
    """
    model = load(model)
    output = Path(path)
    check_output(model, output)
    with model.data.named():
        placement = place(model, layout, output)
    data_files = tuple(dict.fromkeys(placement.files.values()))
    others = {output.with_name(name): content for name, content in (beside or {}).items()}
    _refuse_sources(model, output, [*data_files, *others])
    if not overwrite:
        _refuse_existing([output, *data_files, *others])
    if placement.spilled:
        log.warning(
            "%s would pass protobuf's 2 GB: %d tensors go into %s.data",
            output,
            len(placement.spilled),
            output.name,
        )
    with AtomicFiles() as files:
        for target, content in others.items():
            files.create(target).write(content)
        written = write_data(model, placement, files)
        write_model(model, written, files.create(output), output)
        if check is not None:
            with files.preview() as folder:
                check(folder / output.name)
    return Saved(output, data_files, placement.spilled)


def check_output(model: Model, path: str | os.PathLike[str]) -> None:
    """Raise OutputError where `save` could not write to `path`, to be said before any work is done."""
    output = Path(path)
    if not output.name or "\0" in str(output):
        raise OutputError(f"cannot write {str(path)!r}: no file name", remedy="Name a file.")
    _refuse_sources(model, output, ())
    AtomicFiles.probe(output)


def to_graphsurgeon(model: Model) -> onnx_graphsurgeon.Graph:
    """The model as an onnx-graphsurgeon graph, all weights in memory; metadata has no place in it."""
    try:
        import onnx_graphsurgeon
    except ImportError as error:
        raise RuntimeMissingError(
            "onnx-graphsurgeon is not installed",
            remedy="Install it with `pip install onnxprune[graphsurgeon]`.",
        ) from error
    return onnx_graphsurgeon.import_onnx(model.to_proto(external=True))


def _from_graphsurgeon(graph: Any) -> ModelProto:
    import onnx_graphsurgeon

    proto: ModelProto = onnx_graphsurgeon.export_onnx(graph)
    return proto


def _read(path: Path) -> tuple[ModelProto, Arrays | None]:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise ModelError(f"{path} is {kind}", remedy="Give the path of an .onnx file.")
        if status.st_size > LARGEST_MESSAGE:
            raise ModelError(
                f"{path} is larger than 2 GB, which no ONNX file can be",
                remedy="A model of this size has its weights in a data file: give the .onnx file beside it.",
            )
        if status.st_size >= _MAPPED:
            with path.open("rb") as file:
                mapped = read_mapped(file)
            if mapped is not None and _looks_like_model(mapped[0]):
                return mapped
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelError(f"cannot read {path}: {reason}", remedy="Check the path and its permissions.") from error
    if not content:
        raise ModelError(f"{path} is empty", remedy="Copy or export it again.")
    proto = ModelProto()
    try:
        proto.ParseFromString(content)
    except DecodeError as error:
        # Every ONNX writer begins with field 1, the IR version: such a file was ONNX once.
        if content[0] == 0x08:
            raise ModelError(
                f"{path} is cut off or damaged ({len(content)} bytes)", remedy="Copy or export it again."
            ) from error
        raise _not_onnx(path, content) from error
    if not _looks_like_model(proto):
        raise _not_onnx(path, content)
    return proto, None


def _not_onnx(path: Path, content: bytes) -> ModelError:
    for start, (kind, remedy) in _FOREIGN.items():
        if content.startswith(start):
            return ModelError(f"{path} is not an ONNX model but {kind}", remedy=remedy)
    return ModelError(f"{path} is not an ONNX model", remedy="Give a binary .onnx file.")


def _looks_like_model(proto: ModelProto) -> bool:
    """Protobuf parses many a short text: without any of these it is no model."""
    return proto.ir_version > 0 or proto.HasField("graph") or len(proto.opset_import) > 0


def _require_model(proto: ModelProto, origin: str) -> None:
    missing = [
        what
        for what, there in (
            ("IR version", proto.ir_version > 0),
            ("graph", proto.HasField("graph")),
            (
                "opset",
                len(proto.opset_import) > 0 or proto.ir_version < 3,
            ),  # the IR has opsets from version 3 on
        )
        if not there
    ]
    if missing:
        raise ModelError(
            f"{origin} is no complete ONNX model: it has no {' and no '.join(missing)}",
            remedy="It may have been cut off: copy or export it again.",
        )


def _require_text(proto: ModelProto, origin: str) -> None:
    name = unreadable_name(proto.graph)
    if name is not None:
        raise ModelError(
            f"{origin} holds a name that is not UTF-8: {name!r}",
            remedy="It may be damaged: copy or export it again.",
        )


def _refuse_sources(model: Model, output: Path, data_files: Iterable[Path]) -> None:
    for source in model.source_files:
        if _same_file(output, source):
            raise OutputError(f"{output} is the input itself ({source})", remedy="Choose another output.")
        for target in data_files:
            if _same_file(target, source):
                raise OutputError(
                    f"{target} of the output is a file of the input ({source})",
                    remedy="Choose another name or folder for the output.",
                )


def _same_file(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except OSError:  # one of them does not exist
        return first.resolve() == second.resolve()


def _refuse_existing(targets: Iterable[Path]) -> None:
    for target in targets:
        if os.path.lexists(target):
            raise OutputError(f"{target} exists", remedy="Remove it or allow overwriting.")
