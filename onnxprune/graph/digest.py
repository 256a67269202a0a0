"""What identifies a model: a hash that does not depend on the file's name or on where the weights lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import TensorProto
from xxhash import xxh3_128

from onnxprune.graph.skeleton import copy_model
from onnxprune.graph.tensors import KNOWN_TYPES, all_tensors, clear_content

if TYPE_CHECKING:
    from onnxprune.graph.model import Model


def digest_of(model: Model) -> str:
    """XXH3 of 128 bits (hex) over the graph without content, then every tensor's content in turn, one at a time.

    It tells models apart, at the speed at which they are read; it does not prove who made one, as SHA-256 would.

    The same for a weight in `raw_data`, in typed fields or in an external file; another value, name,
    attribute, doc string or metadata entry gives another hash.
    """
    skeleton = copy_model(model.proto, without=lambda tensor: True)
    for tensor in all_tensors(skeleton):
        clear_content(tensor)
    found = xxh3_128(skeleton.SerializeToString(deterministic=True))
    for tensor in all_tensors(model.proto):
        if tensor.data_type == TensorProto.STRING:
            for item in tensor.string_data:
                found.update(len(item).to_bytes(8, "little") + item)
        elif tensor.data_type not in KNOWN_TYPES:
            found.update(tensor.SerializeToString(deterministic=True))
        else:
            for chunk in model.content(tensor):
                found.update(chunk)
    return found.hexdigest()
