"""Plans as JSON: the published schema, what another team does with it, and what is wrong with a file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from onnxprune.analyse import analyse
from onnxprune.coupling.coupling import Coupling
from onnxprune.edit import apply
from onnxprune.errors import OutputError, PlanError
from onnxprune.importance import score
from onnxprune.plan import from_json, load_plan, plan, plan_for, save_plan, to_json
from onnxprune.types import Budget, Cost, GroupPlan, Plan
from tests.support.models import make_model
from tests.support.planning import conv_chain, two_factors

SCHEMA = json.loads((files("onnxprune.plan") / "plan.schema.json").read_text())


def shared_bias() -> onnx.ModelProto:
    """Two convolutions that read the same bias, and whose units are not the same."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="first"),
        helper.make_node("Conv", ["c", "v", "b"], ["d"], name="second"),
        helper.make_node("Conv", ["d", "u"], ["y"], name="last"),
    ]
    weights = {"w": (4, 3, 1, 1), "v": (4, 4, 1, 1), "u": (2, 4, 1, 1), "b": (4,)}
    return make_model(nodes, {"x": (1, 3, 4, 4)}, ["y"], weights)


def made_for(model: onnx.ModelProto, **options: Any) -> tuple[Coupling, Plan]:
    coupling = analyse(model)
    return coupling, plan(coupling, score(coupling, "random", balanced=True), Budget(ratio=0.5), **options)


MODELS = [
    pytest.param(conv_chain, id="chain"),
    pytest.param(two_factors, id="factors"),
    pytest.param(shared_bias, id="shared vector"),
]


@pytest.mark.parametrize("model", MODELS)
def test_a_plan_comes_back_as_it_was(model: Callable[[], onnx.ModelProto]) -> None:
    _, made = made_for(model())
    assert from_json(to_json(made)) == made
    assert to_json(from_json(to_json(made))) == to_json(made)


@pytest.mark.parametrize("model", MODELS)
def test_a_plan_is_what_the_schema_says(model: Callable[[], onnx.ModelProto]) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    _, made = made_for(model())
    jsonschema.validate(json.loads(to_json(made)), SCHEMA)


@pytest.mark.parametrize("model", MODELS[:2])
def test_another_team_cuts_its_checkpoint_the_same_way(model: Callable[[], onnx.ModelProto], tmp_path: Path) -> None:
    dense = model()
    _, made = made_for(dense)
    save_plan(made, tmp_path / "model.prune.json")
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in dense.graph.initializer}

    plan = json.loads((tmp_path / "model.prune.json").read_text())
    for name, axes in plan["tensors"].items():
        for axis, which in axes.items():
            weights[name] = weights[name].take(plan["indices"][which], axis=int(axis))
    for name, axes in plan.get("rows", {}).items():
        for axis, cut in axes.items():
            rows = [plan["indices"][which] for which in cut["indices"]]
            pieces = [weights[name].take([i], cut["by"]).take(row, int(axis)) for i, row in enumerate(rows)]
            weights[name] = np.concatenate(pieces, cut["by"])

    assert ("rows" in plan) == (model is two_factors)
    pruned = apply(dense, made).to_proto(external=True)
    cut = {tensor.name: numpy_helper.to_array(tensor) for tensor in pruned.graph.initializer}
    floats = {name for name, array in weights.items() if array.dtype == np.float32}
    assert {name: cut[name].shape for name in floats} == {name: weights[name].shape for name in floats}
    assert all((cut[name] == weights[name]).all() for name in floats)
    assert any(weights[t.name].shape != tuple(t.dims) for t in dense.graph.initializer)


def test_tensors_name_axis_and_indices() -> None:
    made = plan_for(analyse(conv_chain((4, 3), classes=2)), {"w0:0": [0, 3], "w1:0": [2, 1]})
    assert made.tensors == {"w0": {0: (0, 3)}, "w1": {0: (1, 2), 1: (0, 3)}, "head": {1: (1, 2)}}
    assert made.shared == {}
    document = json.loads(to_json(made))
    assert document["tensors"] == {"w0": {"0": 0}, "w1": {"0": 1, "1": 0}, "head": {"1": 1}}
    assert document["indices"] == [[0, 3], [1, 2]]  # each list once


def test_a_shared_vector_is_listed_by_reader() -> None:
    made = plan_for(analyse(shared_bias()), {"w:0": [0, 1], "v:0": [1, 3]})
    assert made.shared == {"b": {"first:2": {0: (0, 1)}, "second:2": {0: (1, 3)}}}
    assert set(made.tensors) == {"w", "v", "u"}


def test_a_shared_vector_that_all_readers_cut_alike_is_a_tensor() -> None:
    made = plan_for(analyse(shared_bias()), {"w:0": [0, 2], "v:0": [0, 2]})
    assert made.tensors["b"] == {0: (0, 2)}
    assert made.shared == {}


def test_a_plan_is_readable() -> None:
    made = Plan(
        "ab" * 16,
        (GroupPlan("w:0", 3, (0, 2)),),
        {"w": {0: (0, 2)}},
        settings={"seed": 1, "only": []},
        before=Cost(6, 60),
        after=Cost(4, 40),
    )
    assert to_json(made) == (
        "{\n"
        '  "schema": 4,\n'
        f'  "model_digest": "{"ab" * 16}",\n'
        '  "before": {"parameters": 6, "macs": 60},\n'
        '  "after": {"parameters": 4, "macs": 40},\n'
        '  "settings": {\n'
        '    "seed": 1,\n'
        '    "only": []\n'
        "  },\n"
        '  "analysis": {},\n'
        '  "groups": [\n'
        '    {"name": "w:0", "size": 3, "kept": [0, 2]}\n'
        "  ],\n"
        '  "tensors": {\n'
        '    "w": {"0": 0}\n'
        "  },\n"
        '  "shared": {},\n'
        '  "indices": [\n'
        "    [0, 2]\n"
        "  ]\n"
        "}\n"
    )


TEXT = to_json(plan_for(analyse(shared_bias()), {"w:0": [0, 1], "v:0": [1, 3]}))


@given(st.integers(0, len(TEXT.rstrip()) - 1))
def test_a_plan_cut_off_anywhere_is_refused(at: int) -> None:
    with pytest.raises(PlanError, match=r"^half\.prune\.json: this is no JSON: .*cut off"):
        from_json(TEXT[:at], "half.prune.json")


def changed(change: Callable[[dict], object]) -> str:
    document = json.loads(TEXT)
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("groups"), "the field 'groups' is missing"),
        (lambda d: d.update(group=[]), "there is no field 'group'"),
        (lambda d: d.update(schema=3), "the plan has schema 3, this version reads 4"),
        (lambda d: d.update(schema="1"), "the plan has schema 1, this version reads 4"),
        (lambda d: d.pop("schema"), "the field 'schema' is missing"),
        (lambda d: d.update(model_digest=7), "model_digest: it must be a string, not a whole number"),
        (lambda d: d.update(groups={}), "groups: it must be a list, not an object"),
        (lambda d: d["groups"][1].pop("size"), r"groups\[1\]: the field 'size' is missing"),
        (lambda d: d["groups"][1].update(size=4.0), r"groups\[1\]\.size: it must be a whole number, not a number"),
        (
            lambda d: d["groups"][1].update(size=True),
            r"groups\[1\]\.size: it must be a whole number, not true or false",
        ),
        (lambda d: d["groups"][0]["kept"].append(-1), r"groups\[0\]\.kept\[2\]: it is -1, and must not be negative"),
        (lambda d: d["groups"][0]["kept"].append("1"), r"groups\[0\]\.kept\[2\]: it must be a whole number, not a str"),
        (lambda d: d["groups"][0].update(name=None), r"groups\[0\]\.name: it must be a string, not null"),
        (lambda d: d["tensors"]["w"].update({"0": 99}), r"tensors\.w\.0: there is no list 99, `indices` has "),
        (lambda d: d["tensors"]["w"].update({"x": 0}), r"tensors\.w\.x: 'x' is no axis"),
        (lambda d: d["tensors"].update(w=[0]), r"tensors\.w: it must be an object, not a list"),
        (lambda d: d["shared"]["b"].update({"first:2": 0}), r"shared\.b\.first:2: it must be an object"),
        (lambda d: d["indices"].append([0.5]), r"indices\[\d\]\[0\]: it must be a whole number, not a number"),
        (lambda d: d.update(settings=[]), "settings: it must be an object, not a list"),
        (lambda d: d["analysis"].update(bind=3), r"analysis\.bind: it must be an object, not a whole number"),
        (
            lambda d: d["analysis"].update(bind={"n": "1"}),
            r"analysis\.bind\.n: it must be a whole number, not a string",
        ),
        (lambda d: d["analysis"].update(input_shapes={"x": [1, -2]}), r"analysis\.input_shapes\.x\[1\]: it is -2"),
        (lambda d: d["analysis"].update(allow_io_change=[1]), r"analysis\.allow_io_change\[0\]: it must be a string"),
        (lambda d: d["analysis"].update(measured={"y": 3}), r"analysis\.measured\.y: it must be a list"),
        (lambda d: d["analysis"].update(binds={}), "analysis: there is no field 'binds'"),
        (lambda d: d["before"].pop("macs"), "before: the field 'macs' is missing"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_field(change: Callable[[dict], object], message: str) -> None:
    text = changed(change)
    with pytest.raises(PlanError, match=rf"^some\.prune\.json: {message}"):
        from_json(text, "some.prune.json")


@pytest.mark.parametrize("text", ["[]", "1", "null", '"plan"'])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match="some: it must be an object"):
        from_json(text, "some")


def test_the_schema_refuses_what_the_reader_refuses() -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    for change in (
        lambda d: d.pop("groups"),
        lambda d: d.update(group=[]),
        lambda d: d.update(schema=3),
        lambda d: d["groups"][1].update(size=True),
        lambda d: d["groups"][0]["kept"].append(-1),
        lambda d: d["tensors"]["w"].update({"x": 0}),
        lambda d: d["shared"]["b"].update({"first:2": 0}),
        lambda d: d["before"].pop("macs"),
        lambda d: d["analysis"].update(bind={"n": "1"}),
        lambda d: d["analysis"].update(measured={"y": 3}),
        lambda d: d["analysis"].update(binds={}),
    ):
        assert not validator.is_valid(json.loads(changed(change)))


class TestBlocks:
    """Every block of a group keeps members of its own."""

    TEXT = to_json(plan_for(analyse(two_factors()), {"w:1#2": [0, 1]}, blocks={"w:1#2": [[3, 1], [0, 2]]}))

    def test_are_listed_once(self) -> None:
        document = json.loads(self.TEXT)
        assert document["groups"][1] == {"name": "w:1#2", "size": 4, "kept": [0, 1], "blocks": [1, 2]}
        assert document["tensors"] == {"w": {"1": 0}}
        assert document["rows"] == {"per_head": {"1": {"by": 0, "indices": [1, 2]}}}
        assert document["indices"] == [[1, 3, 4, 6], [1, 3], [0, 2]]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda d: d["groups"][1].update(blocks=3), r"groups\[1\]\.blocks: it must be a list"),
            (lambda d: d["groups"][1].update(blocks=[9]), r"groups\[1\]\.blocks\[0\]: there is no list 9"),
            (lambda d: d["rows"]["per_head"].update(x=0), r"rows\.per_head\.x: 'x' is no axis"),
            (lambda d: d["rows"]["per_head"]["1"].pop("by"), r"rows\.per_head\.1: the field 'by' is missing"),
            (lambda d: d["rows"]["per_head"]["1"].update(indices=[9]), r"rows\..*\[0\]: there is no list 9"),
        ],
    )
    def test_what_is_wrong_is_named(self, change: Callable[[dict], object], message: str) -> None:
        document = json.loads(self.TEXT)
        change(document)
        with pytest.raises(PlanError, match=message):
            from_json(json.dumps(document))


class TestFiles:
    def test_there_and_back(self, tmp_path: Path) -> None:
        _, made = made_for(conv_chain())
        save_plan(made, tmp_path / "a.prune.json")
        assert load_plan(tmp_path / "a.prune.json") == made
        assert os.listdir(tmp_path) == ["a.prune.json"]

    def test_names_that_are_not_ascii(self, tmp_path: Path) -> None:
        made = Plan("0" * 32, (GroupPlan("Größe/重み:0", 2, (1,)),), {"重み": {0: (1,)}})
        save_plan(made, tmp_path / "a.prune.json")
        assert load_plan(tmp_path / "a.prune.json") == made
        assert "重み" in (tmp_path / "a.prune.json").read_text("utf-8")

    def test_no_such_folder(self, tmp_path: Path) -> None:
        _, made = made_for(conv_chain())
        with pytest.raises(OutputError, match=r"none/a\.prune\.json"):
            save_plan(made, tmp_path / "none" / "a.prune.json")

    def test_no_such_file(self, tmp_path: Path) -> None:
        with pytest.raises(PlanError, match=r"cannot read the plan .*a\.prune\.json: No such file"):
            load_plan(tmp_path / "a.prune.json")

    def test_no_text(self, tmp_path: Path) -> None:
        (tmp_path / "a.prune.json").write_bytes(b"\x80\x00\xff")
        with pytest.raises(PlanError, match="it is no text"):
            load_plan(tmp_path / "a.prune.json")
