"""The conversion itself: prepared, handed to ONNX Runtime's converter, and put in order again."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from onnx import ModelProto, TensorProto

from onnxprune.errors import ModelError
from onnxprune.graph.model import Model
from onnxprune.graph.shapes import Shapes
from onnxprune.graph.view import GraphView
from onnxprune.runtime.ort import first_line, onnxruntime
from onnxprune.runtime.precision.casts import tidy
from onnxprune.runtime.precision.emulate import emulated
from onnxprune.runtime.precision.kinds import Kind
from onnxprune.runtime.precision.prepare import restore, spell_out
from onnxprune.runtime.precision.retype import retype


@dataclass(frozen=True)
class Converted:
    """The model, the same as a float32 model that rounds (see emulate.py), and how many nodes are of 16 bits."""

    model: Model
    rounding: Model
    narrow: int


def blocked_operators() -> tuple[str, ...]:
    """Operators that the converter leaves in float32."""
    return tuple(_converter().DEFAULT_OP_BLOCK_LIST)


def convert(source: Model, shapes: Shapes, kind: Kind, staying: Mapping[int, str], *, keep_io: bool) -> Converted:
    """`source` (its weights in memory, see prepare.py) in `kind`, but for the nodes `staying` (by index).

    Raises ModelError where the converter fails.
    """
    before = source.to_proto()
    spell_out(before, shapes)
    view = GraphView(Model(before))
    names = [view.nodes[index].proto.name for index in staying]
    given = ModelProto()
    given.CopyFrom(before)
    module = _converter()
    level = module.logger.level
    try:
        module.logger.setLevel(logging.ERROR)
        after = module.convert_float_to_float16(
            given, keep_io_types=keep_io, disable_shape_infer=True, op_block_list=[], node_block_list=names
        )
    except Exception as error:
        raise ModelError(
            f"ONNX Runtime's converter fails: {first_line(error)}", remedy="leave nodes out with --ignore"
        ) from error
    finally:
        module.logger.setLevel(level)
    retype(before, after, kind)
    wide = tidy(after.graph, len(after.graph.node) - len(before.graph.node))
    for info in after.graph.value_info:
        if info.name in wide:
            info.type.tensor_type.elem_type = TensorProto.FLOAT
    rounding = emulated(after, kind)
    restore(source.proto.graph, after.graph)
    touched = [n for n in view.nodes if any(shapes.dtype.get(o) == TensorProto.FLOAT for o in n.outputs if o)]
    return Converted(Model(after), Model(rounding), len([n for n in touched if n.index not in staying]))


def _converter() -> ModuleType:
    onnxruntime()
    return import_module("onnxruntime.transformers.float16")
