"""Model-local functions: analysed through their bodies, one body for all calls, or a copy for each if asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import FunctionProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.helper import make_node

import onnxprune
from onnxprune.analyse import analyse
from onnxprune.edit import apply
from onnxprune.graph.functions import specialise
from onnxprune.plan import load_plan, plan_for, save_plan
from tests.graph.protos import differences
from tests.support.models import make_model
from tests.support.oracle import assert_prunes_exactly

ROWS, WIDTH, HIDDEN = 5, 6, 8
OPSET = 18


def sizes(name: str, values: Sequence[int]) -> NodeProto:
    return make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(values, np.int64)))


PLAIN = [
    make_node("MatMul", ["x", "up"], ["m"]),
    make_node("Relu", ["m"], ["r"]),
    make_node("MatMul", ["r", "down"], ["y"]),
]
"""Says nothing of sizes."""
HEADS = [
    make_node("MatMul", ["x", "up"], ["m"]),
    sizes("split", [2, ROWS, 2, 4]),
    make_node("Reshape", ["m", "split"], ["s"]),
    make_node("Relu", ["s"], ["t"]),
    sizes("join", [2, ROWS, HIDDEN]),
    make_node("Reshape", ["t", "join"], ["r"]),
    make_node("MatMul", ["r", "down"], ["y"]),
]
"""Says that there are 2 heads of 4."""
SCALED = [
    make_node("MatMul", ["x", "up"], ["m"]),
    make_node("Shape", ["m"], ["size"], start=2),
    make_node("Cast", ["size"], ["width"], to=TensorProto.FLOAT),
    make_node("Div", ["m", "width"], ["r"]),
    make_node("MatMul", ["r", "down"], ["y"]),
]
"""Computes with the width."""
HELD = [
    make_node("MatMul", ["x", "up"], ["m"]),
    make_node("Constant", [], ["b"], value=numpy_helper.from_array(np.linspace(-1, 2, HIDDEN, dtype=np.float32))),
    make_node("Add", ["m", "b"], ["a"]),
    make_node("Relu", ["a"], ["r"]),
    make_node("MatMul", ["r", "down"], ["y"]),
]
"""Holds a bias."""


def function(body: Sequence[NodeProto], name: str = "Block", domain: str = "local") -> FunctionProto:
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid("local", 1)]
    return helper.make_function(domain, name, ["x", "up", "down"], ["y"], body, imports)


def called_twice(*functions: FunctionProto, hidden: tuple[int, int] = (HIDDEN, HIDDEN)) -> onnx.ModelProto:
    """x [2, 5, 6] -> the first function (w1, v1) -> again (w2, v2) -> out."""
    model = make_model(
        [
            make_node(functions[0].name, ["x", "w1", "v1"], ["h"], domain="local", name="one"),
            make_node(functions[0].name, ["h", "w2", "v2"], ["out"], domain="local", name="two"),
        ],
        {"x": [2, ROWS, WIDTH]},
        ["out"],
        {"w1": [WIDTH, hidden[0]], "v1": [hidden[0], WIDTH], "w2": [WIDTH, hidden[1]], "v2": [hidden[1], WIDTH]},
        opset=OPSET,
    )
    model.functions.extend(functions)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("out", TensorProto.FLOAT, [2, ROWS, WIDTH]))
    return model


def names(model: onnx.ModelProto, **options: bool) -> list[tuple[str, int]]:
    return [(group.name, group.size) for group in analyse(model, **options).groups]


def test_calls_are_alone_where_the_body_says_nothing_of_sizes() -> None:
    model = called_twice(function(PLAIN))
    assert names(model) == [("w1:1", 8), ("v1:1", 6), ("w2:1", 8)]
    assert_prunes_exactly(model)


@pytest.mark.parametrize(
    ("body", "together", "alone"),
    [
        (HEADS, [2, 4, 6], [2, 4, 6, 2, 4]),
        (SCALED, [8, 6], [8, 6, 8]),
        (HELD, [8, 6], [8, 6, 8]),
    ],
    ids=["heads", "scaled", "held"],
)
def test_where_it_does_calls_lose_the_same_or_are_specialised(
    body: Sequence[NodeProto], together: list[int], alone: list[int]
) -> None:
    model = called_twice(function(body))
    assert [size for _, size in names(model)] == together
    assert [size for _, size in names(model, specialise_functions=True)] == alone
    assert_prunes_exactly(model)
    assert_prunes_exactly(model, specialise_functions=True)


def test_a_function_stays_one() -> None:
    model = called_twice(function(HEADS))
    coupling = analyse(model)
    pruned = apply(model, plan_for(coupling, {"w1:1": [1]}), coupling).to_proto()
    assert [f.name for f in pruned.functions] == ["Block"]
    assert [node.op_type for node in pruned.graph.node] == ["Block", "Block"]
    stored = [node.attribute[0].t for node in pruned.functions[0].node if node.op_type == "Constant"]
    assert [numpy_helper.to_array(t).tolist() for t in stored] == [[2, ROWS, 1, 4], [2, ROWS, 4]]


def test_calls_of_other_sizes_keep_theirs_with_a_reason() -> None:
    body = [*HEADS]
    body[1], body[4] = sizes("split", [2, ROWS, 2, -1]), sizes("join", [2, ROWS, -1])
    model = called_twice(function(body), hidden=(8, 12))
    assert names(model) == [("v1:1", 6)]
    why = {(r.tensor, r.axis): (r.why.split(" [")[0], r.help) for r in analyse(model).refusals}
    assert why["w2", 1][0] == "its function carries sizes, and is called with others elsewhere"
    assert "--specialise-functions" in why["w2", 1][1]
    assert_prunes_exactly(model, specialise_functions=True)


def test_functions_in_functions_and_in_branches() -> None:
    outer = [
        make_node("Block", ["x", "up", "down"], ["h"], domain="local"),
        make_node("Block", ["h", "up", "down"], ["y"], domain="local"),
    ]
    model = called_twice(function(outer, "Twice"), function(HEADS))
    assert_prunes_exactly(model)
    assert_prunes_exactly(model, specialise_functions=True)
    own = specialise(onnxprune.load(model)).proto
    assert [f.name for f in own.functions] == ["Twice", "Block", "Block_2", "Twice_2", "Block_3", "Block_4"]
    calls = {f.name: [n.op_type for n in f.node] for f in own.functions if f.name.startswith("Twice")}
    assert calls == {"Twice": ["Block", "Block_2"], "Twice_2": ["Block_3", "Block_4"]}


def test_a_model_without_repeated_calls_is_given_back() -> None:
    model = onnxprune.load(make_model([make_node("Relu", ["x"], ["out"])], {"x": [2]}, ["out"], {}))
    assert specialise(model) is model


def test_a_plan_remembers_that_functions_were_specialised(tmp_path: Path) -> None:
    model = called_twice(function(HEADS))
    before = model.SerializeToString(deterministic=True)
    coupling = analyse(model, specialise_functions=True)
    plan = plan_for(coupling, {"w2:1": [0]})
    assert plan.model_digest == onnxprune.load(model).digest
    save_plan(plan, tmp_path / "p.prune.json")
    schema = json.loads((files("onnxprune.plan") / "plan.schema.json").read_text())
    jsonschema.validate(json.loads((tmp_path / "p.prune.json").read_text()), schema)
    pruned = apply(model, load_plan(tmp_path / "p.prune.json")).to_proto()
    assert {f.name for f in pruned.functions} == {"Block", "Block_2"}
    assert differences(pruned.functions[0], model.functions[0]) == []
    assert model.SerializeToString(deterministic=True) == before
