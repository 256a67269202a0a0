"""What an operator's rule does to single nodes: whether any axis may change, and which statistics do."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.backend.test.case import node
from onnx.backend.test.case.test_case import TestCase

from onnxprune.analyse import analyse

Observed = tuple[bool, frozenset[str]]
FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16}


def observe(model: onnx.ModelProto) -> Observed:
    """Whether an axis of length above 1 may change if inputs and outputs may, and the reasons of what then mixes."""
    borders = [i.name for i in [*model.graph.input, *model.graph.output]]
    coupling = analyse(model, allow_io_change=borders)
    solution = coupling.solution
    free = ~solution.frozen
    used = [slot for slot in coupling.atoms.slots if slot.size > 1]
    moves = any(free[solution.label[slot.start : slot.start + slot.size]].any() for slot in used)
    mixes = {coupling.atoms.reasons[why].why for ids, why in coupling.links.mixes if free[solution.label[ids]].any()}
    return moves, frozenset(mixes)


def stored(model: onnx.ModelProto, feeds: list[np.ndarray]) -> onnx.ModelProto:
    """A copy in which whatever is not a float tensor (axes, sizes, indices) is stored instead of fed."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    del copy.graph.input[:]
    for info, array in zip(model.graph.input, feeds, strict=False):
        kind = info.type.tensor_type
        if kind.elem_type in FLOATS and len(kind.shape.dim):
            copy.graph.input.append(info)
        else:
            copy.graph.initializer.append(numpy_helper.from_array(np.asarray(array), info.name))
    return copy


SLOW = {"averagepool", "lppool", "maxpool"}  # minutes of arithmetic in Python; three cases of our own stand for them


@cache
def backend_nodes() -> tuple[tuple[str, str, onnx.ModelProto], ...]:
    """ONNX's own backend test cases of one node: operator, name of the case, model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases divide by zero on purpose
        for module in pkgutil.iter_modules(node.__path__):
            if module.name not in SLOW:
                importlib.import_module(f"{node.__name__}.{module.name}")
    return tuple(_single_nodes(node._NodeTestCases))


def _single_nodes(cases: Iterable[TestCase]) -> Iterator[tuple[str, str, onnx.ModelProto]]:
    for case in cases:
        model = case.model
        if len(model.graph.node) != 1 or model.graph.node[0].domain not in ("", "ai.onnx") or not case.data_sets:
            continue
        feeds, _ = case.data_sets[0]
        tensors = all(isinstance(feed, np.ndarray | np.generic) for feed in feeds)
        if tensors and all(info.type.HasField("tensor_type") for info in model.graph.input):
            yield model.graph.node[0].op_type, case.name, stored(model, feeds)


def float_node(op: str, shapes: Sequence[Sequence[int]], opset: int = 20, **attrs: Any) -> onnx.ModelProto:
    """One node of ai.onnx on floats that are all fed."""
    names = [f"i{k}" for k in range(len(shapes))]
    graph = helper.make_graph(
        [helper.make_node(op, names, ["y"], **attrs)], "one",
        [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in zip(names, shapes, strict=True)],
        [onnx.ValueInfoProto(name="y")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
