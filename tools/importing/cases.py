"""ONNX's backend cases with their inputs and expected outputs, from the installed onnx package."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import ModelProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.loader import load_model_tests

KINDS = ("simple", "pytorch-operator", "pytorch-converted")


@dataclass(frozen=True)
class Case:
    """One model with sets of (inputs, expected outputs) as arrays, lists of them, or None."""

    kind: str
    name: str
    model: ModelProto
    data: list[tuple[list[Any], list[Any]]]
    rtol: float
    atol: float


def all_cases() -> Iterator[Case]:
    """The node cases, which onnx generates, then those that it stores."""
    for case in collect_testcases(None):
        data = [(_values(inputs), _values(outputs)) for inputs, outputs in case.data_sets or ()]
        yield Case("node", case.name, case.model, data, case.rtol, case.atol)
    for kind in KINDS:
        for case in load_model_tests(kind=kind):
            folder = case.model_dir
            model = onnx.load(os.path.join(folder, "model.onnx"))
            data = []
            for set_folder in sorted(glob.glob(os.path.join(folder, "test_data_set_*"))):
                inputs = _stored(set_folder, "input", [v.type for v in model.graph.input])
                data.append((inputs, _stored(set_folder, "output", [v.type for v in model.graph.output])))
            yield Case(kind, case.name, model, data, case.rtol, case.atol)


def _values(given: Any) -> list[Any]:
    return [_value(item) for item in given]


def _value(item: Any) -> Any:
    if isinstance(item, onnx.TensorProto):
        return numpy_helper.to_array(item)
    if isinstance(item, onnx.SequenceProto):
        return numpy_helper.to_list(item)
    if isinstance(item, onnx.OptionalProto):
        return numpy_helper.to_optional(item)
    return item


def _stored(folder: str, stem: str, types: list[Any]) -> list[Any]:
    found = []
    for number, kind in enumerate(types):
        path = os.path.join(folder, f"{stem}_{number}.pb")
        if not os.path.exists(path):
            continue
        proto = onnx.SequenceProto() if kind.HasField("sequence_type") else onnx.TensorProto()
        with open(path, "rb") as file:
            proto.ParseFromString(file.read())
        found.append(_value(proto))
    return found
