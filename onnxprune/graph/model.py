"""A loaded model: the user's ModelProto, where its weights lie, and weights to be computed on saving."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto

from onnxprune.errors import SettingError
from onnxprune.graph.digest import digest_of
from onnxprune.graph.external import DataFiles, entry
from onnxprune.graph.skeleton import copy_model
from onnxprune.graph.tensors import (
    all_tensors,
    array_from_content,
    clear_content,
    content_of,
    dtype_of,
    embedded_array,
    embedded_content,
    is_external,
    set_array,
    set_dims,
)


class Model:
    """An ONNX model whose weights are read when asked for.

    `proto` is the user's; external data is not loaded into it. Treat it as read-only: edits are made on a
    `copy()`. `path` is the source file, None if there is none; external data are relative to its folder.
    `pending` maps the name of a main-graph initializer to the function that computes its new array, called
    when the array is asked for or saved and never kept, so that not all new weights are in memory at once.
    The TensorProto of a pending initializer has its new shape and its element type, and its content is
    ignored.
    """

    def __init__(
        self,
        proto: ModelProto,
        path: Path | None = None,
        pending: dict[str, Callable[[], np.ndarray]] | None = None,
        *,
        data: DataFiles | None = None,
    ) -> None:
        self.proto = proto
        self.path = path
        self.pending = {} if pending is None else pending
        self.data = data or DataFiles(path, str(path or "model"))

        self._by_name: dict[str, TensorProto] = {}

    def initializer(self, name: str) -> TensorProto | None:
        """The main graph's dense initializer of that name, None if there is none."""
        found = self.proto.graph.initializer
        if len(self._by_name) != len(found):  # first use, or an edit added or removed some
            self._by_name = {tensor.name: tensor for tensor in found}
        return self._by_name.get(name)

    def is_pending(self, tensor: TensorProto) -> bool:
        """Whether this very tensor (not a subgraph's of the same name) has a pending array."""
        return tensor.name in self.pending and self.initializer(tensor.name) is tensor

    def array(self, tensor: TensorProto | str) -> np.ndarray:
        """The array of a tensor of this model, or of the main graph's initializer of that name; read-only.

        Shape and dtype are the tensor's (numpy's or ml_dtypes'; 4-bit and smaller unpacked; strings as
        objects). External data comes memory-mapped, `raw_data` with one copy, a pending array is computed at
        each call. Raises ModelError where the content is missing or does not fit the shape.
        """
        if isinstance(tensor, str):
            tensor = self._require(tensor)
        if self.is_pending(tensor):
            array = self.pending[tensor.name]().view()
            if (array.shape, array.dtype) != (tuple(tensor.dims), dtype_of(tensor)):
                raise ValueError(
                    f"pending {tensor.name!r} is {array.dtype}{list(array.shape)}, "
                    f"its tensor {dtype_of(tensor)}{list(tensor.dims)}"
                )
            array.flags.writeable = False
            return array
        with self.data.named():
            if is_external(tensor):
                return array_from_content(tensor, self.data.view(self.data.span(tensor)))
            return embedded_array(tensor)

    def content(self, tensor: TensorProto) -> Iterator[bytes | memoryview]:
        """The tensor's content (see graph.tensors) in pieces, wherever it comes from; not for strings."""
        if self.is_pending(tensor):
            yield content_of(self.array(tensor), tensor)
        elif is_external(tensor):
            yield from self.data.chunks(self.data.span(tensor))
        else:
            with self.data.named():
                content = embedded_content(tensor)
            yield content

    def copy(self, *, without: Collection[str] = ()) -> Model:
        """A model to edit: its proto is independent, data files and pending functions are shared.

        The main graph's initializers named in `without` come without content, for `defer` or `set_array` to
        fill: what is replaced anyway is not copied.
        """
        proto = copy_model(self.proto, without=lambda tensor: tensor.name in without or tensor.name in self.pending)
        return Model(proto, self.path, dict(self.pending), data=self.data)

    def defer(self, name: str, dims: Sequence[int], compute: Callable[[], np.ndarray]) -> None:
        """Give the main graph's initializer `name` the shape `dims` and, on saving, the array of `compute`.

        `compute` must give the initializer's own element type. An external tensor stays in its data file.
        """
        tensor = self._require(name)
        location = entry(tensor, "location") if is_external(tensor) else None
        clear_content(tensor)
        set_dims(tensor, dims)
        if location is not None:
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=location)
        self.pending[name] = compute
        self.__dict__.pop("digest", None)

    def to_proto(self, *, external: bool = False) -> ModelProto:
        """An independent ModelProto with pending arrays computed and, with `external`, external data loaded.

        Without it, what lies in external data stays there, relative to the folder of `path`.
        """
        copy = self.copy()
        for source, target in zip(all_tensors(self.proto), all_tensors(copy.proto), strict=True):
            if self.is_pending(source) or (external and is_external(source)):
                self.embed(source, target)
        return copy.proto

    def embed(self, tensor: TensorProto, target: TensorProto) -> None:
        """Give `target`, a copy of this model's `tensor`, the tensor's content as its own."""
        if tensor.data_type == TensorProto.STRING:
            set_array(target, self.array(tensor))
        else:
            content = b"".join(self.content(tensor))
            clear_content(target)
            target.raw_data = content

    @cached_property
    def digest(self) -> str:
        """Hash of graph and weights, the same wherever the weights lie and whatever the file is called."""
        return digest_of(self)

    @property
    def source_files(self) -> list[Path]:
        """The files that this model was, or is still, read from: never to be written to."""
        return [*([self.path] if self.path else []), *self.data.files]

    def _require(self, name: str) -> TensorProto:
        tensor = self.initializer(name)
        if tensor is None:
            raise SettingError(
                f"{self.data.origin}: no initializer {name!r}", remedy="`onnxprune inspect` lists the names."
            )
        return tensor

    def __repr__(self) -> str:
        return f"Model({self.data.origin!r}, {len(self.proto.graph.node)} nodes)"
