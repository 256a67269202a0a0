"""Which tensor of a saved model goes into which file: embedded, one data file, or many."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from onnx import TensorProto

from onnxprune.errors import SettingError
from onnxprune.graph.external import entry
from onnxprune.graph.model import Model
from onnxprune.graph.tensors import KNOWN_TYPES, all_tensors, content_size, is_external
from onnxprune.graph.wire import LARGEST_MESSAGE

Layout = Literal["keep", "embedded", "single", "many"]

LARGEST_EMBEDDED = LARGEST_MESSAGE - 2**26  # bytes of content, which leaves room for the graph itself
SMALLEST_MOVED = 1024  # bytes; onnx's own threshold: what a runtime needs for shape inference stays in the model

MOVABLE_TYPES = KNOWN_TYPES - {TensorProto.STRING}  # ONNX allows no strings in external data


@dataclass(frozen=True)
class Placement:
    """Where content goes: data file by position in `all_tensors`; positions that are missing are embedded.

    `spilled` names the tensors that were to be embedded, but are put into a data file as the model would pass
    2 GB.
    """

    files: dict[int, Path]
    spilled: tuple[str, ...] = ()


def place(model: Model, layout: Layout, output: Path, *, largest: int = LARGEST_EMBEDDED) -> Placement:
    """Decide for every tensor; data files are named after `output` and lie beside it.

    Only the main graph's initializers move into data files; what was external stays so, unless `layout` is
    "embedded".
    """
    tensors = list(all_tensors(model.proto))
    single = output.with_name(f"{output.name}.data")
    names = _Names(output, model.path)
    movable = [
        index
        for index, tensor in enumerate(model.proto.graph.initializer)
        if tensor.data_type in MOVABLE_TYPES and content_size(tensor) >= SMALLEST_MOVED
    ]
    external = {i: entry(tensor, "location") or "" for i, tensor in enumerate(tensors) if is_external(tensor)}
    locations = dict.fromkeys(external.values())
    match layout:
        case "keep" if len(locations) == 1:
            files = dict.fromkeys(external, single)
        case "keep":
            by_location = {location: names.new(location) for location in locations}
            files = {index: by_location[location] for index, location in external.items()}
        case "single":
            files = dict.fromkeys(sorted({*external, *movable}), single)
        case "many":
            by_name: dict[object, Path] = {}
            files = {}
            for index in sorted({*external, *movable}):
                tensor = tensors[index]
                # tensors that share a range of a source file share a file again
                key = model.data.span(tensor) if index in external and not model.is_pending(tensor) else index
                if key not in by_name:
                    by_name[key] = names.new(tensor.name or f"tensor_{index}")
                files[index] = by_name[key]
        case "embedded":
            files = {}
        case _:
            raise SettingError(f"unknown layout {layout!r}", remedy="Use keep, embedded, single or many.")

    embedded = sum(content_size(tensor) for index, tensor in enumerate(tensors) if index not in files)
    if embedded <= largest:
        return Placement(files)
    large = (index for index in (*movable, *external) if content_size(tensors[index]) >= SMALLEST_MOVED)
    moved = {index for index in large if index not in files}
    files |= dict.fromkeys(moved, single)
    return Placement(dict(sorted(files.items())), tuple(tensors[index].name for index in sorted(moved)))


class _Names:
    """Names for data files: the output's, then what the data file was called before, or the tensor is."""

    def __init__(self, output: Path, source: Path | None) -> None:
        self.output = output
        self.source = source
        self.taken = {"data"}  # the name of the single data file

    def new(self, wanted: str) -> Path:
        stem = re.split(r"[/\\]", wanted)[-1]
        if self.source is not None:
            stem = stem.removeprefix(f"{self.source.name}.")
        stem = re.sub(r"[^\w.+-]", "_", stem, flags=re.ASCII) or "weights"
        if len(stem) > 120:
            stem = f"{stem[:100]}-{hashlib.sha256(wanted.encode()).hexdigest()[:16]}"
        name, count = stem, 1
        while name.casefold() in self.taken:
            count += 1
            name = f"{stem}-{count}"
        self.taken.add(name.casefold())
        return self.output.with_name(f"{self.output.name}.{name}")
