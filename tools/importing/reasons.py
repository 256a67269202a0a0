"""Why a backend case is not counted: its tensors are no numbers, or torch has no arithmetic for what it does."""

from __future__ import annotations

from onnx import GraphProto, TensorProto

from importing.cases import Case

_DRAWN = {"Bernoulli", "RandomUniformLike", "RandomNormalLike", "Multinomial", "RandomUniform", "RandomNormal"}
_DROPPED = {f"test_training_dropout{form}" for form in ("", "_mask", "_default", "_default_mask")}
_NO_ARITHMETIC = {"FLOAT4E2M1", "INT2", "UINT2", "FLOAT8E8M0", "FLOAT6E2M3", "FLOAT6E3M2"}
_OTHER_DOMAINS = {
    "ai.onnx.ml": "trees and tables",
    "ai.onnx.preview.training": "optimiser steps as a graph",
    "ai.onnx.preview": "preview operators",
}
_NO_TENSORS = {
    "ImageDecoder": "decodes image files",
    "TfIdfVectorizer": "counts n-grams",
    "StringNormalizer": "strings",
}


def not_counted(case: Case) -> str:
    """The reason, "" for a case that counts."""
    kinds = set()
    for info in [*case.model.graph.input, *case.model.graph.output]:
        kinds |= _element_types(info.type)
    names = {TensorProto.DataType.Name(kind) for kind in kinds}
    if "STRING" in names:
        return "strings"
    if names & _NO_ARITHMETIC:
        return f"element types that torch has no arithmetic for ({', '.join(sorted(names & _NO_ARITHMETIC))})"
    if case.name.startswith("test_bernoulli"):
        return "random numbers of another generator"
    for node in _nodes(case.model.graph):
        if node.domain in _OTHER_DOMAINS:
            return f"{node.domain}: {_OTHER_DOMAINS[node.domain]}"
        if node.op_type in _NO_TENSORS:
            return f"{node.op_type}: {_NO_TENSORS[node.op_type]}"
        if node.op_type in _DRAWN or case.name in _DROPPED:
            return "random numbers of another generator"
        if node.op_type in ("Cast", "CastLike"):
            to = next((a.i for a in node.attribute if a.name == "to"), 0)
            if to == TensorProto.STRING:
                return "strings"
    return ""


def _nodes(graph: GraphProto) -> list:
    found = list(graph.node)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found += _nodes(attribute.g)
    return found


def _element_types(kind) -> set[int]:
    if kind.HasField("tensor_type"):
        return {kind.tensor_type.elem_type}
    if kind.HasField("sequence_type"):
        return _element_types(kind.sequence_type.elem_type)
    if kind.HasField("optional_type"):
        return _element_types(kind.optional_type.elem_type)
    return set()
