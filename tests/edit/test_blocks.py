"""Dropping residual blocks: the dense model with the branch times zero, and nothing left behind."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxprune.analyse import analyse
from onnxprune.check import mask_dense
from onnxprune.edit import carry
from onnxprune.errors import PlanError
from onnxprune.plan import plan_for
from tests.support.models import make_model
from tests.support.oracle import complaint, distance, random_feeds, run


def blocks(count: int = 3, *, inputs_sum_first: bool = False) -> onnx.ModelProto:
    """8 channels, and `count` times x + down(relu(up(x))) with 16 in between."""
    nodes = [helper.make_node("Conv", ["x", "stem"], ["s"], name="stem")]
    weights: dict = {"stem": (8, 3, 1, 1), "head": (5, 8, 1, 1)}
    value = "s"
    for k in range(count):
        summands = [value, f"d{k}"] if inputs_sum_first else [f"d{k}", value]
        nodes += [
            helper.make_node("Conv", [value, f"up{k}"], [f"u{k}"], name=f"up{k}"),
            helper.make_node("Relu", [f"u{k}"], [f"r{k}"], name=f"relu{k}"),
            helper.make_node("Conv", [f"r{k}", f"down{k}"], [f"d{k}"], name=f"down{k}"),
            helper.make_node("Add", summands, [f"a{k}"], name=f"sum{k}"),
        ]
        weights |= {f"up{k}": (16, 8, 1, 1), f"down{k}": (8, 16, 1, 1)}
        value = f"a{k}"
    nodes.append(helper.make_node("Conv", [value, "head"], ["y"], name="head"))
    return make_model(nodes, {"x": (1, 3, 4, 4)}, ["y"], weights)


@pytest.mark.parametrize("inputs_sum_first", [False, True])
@pytest.mark.parametrize("dropped", [["sum0"], ["sum2"], ["sum0", "sum1"], ["sum0", "sum1", "sum2"]])
def test_what_is_left_and_what_it_gives(dropped: list[str], inputs_sum_first: bool) -> None:
    coupling = analyse(blocks(inputs_sum_first=inputs_sum_first))
    assert [block.name for block in coupling.blocks] == ["sum0", "sum1", "sum2"]
    kept = {"stem:0": range(1, 8), "up1:0": range(4)}
    made = plan_for(coupling, kept, dropped=dropped)
    edited = carry(coupling, made)
    left = [k for k in "012" if f"sum{k}" not in dropped]
    assert [n.name for n in edited.model.proto.graph.node] == [
        "stem", *(f"{part}{k}" for k in left for part in ("up", "relu", "down", "sum")), "head",
    ]  # fmt: skip
    stored = {tensor.name for tensor in edited.model.proto.graph.initializer}
    assert stored == {"stem", "head", *(f"{part}{k}" for k in left for part in ("up", "down"))}
    assert set(made.tensors) == {"stem", "head", *(f"{p}{k}" for k in left for p in ("up", "down"))}
    wide = {"0": 16, "1": 4, "2": 16}
    assert made.after.parameters == 3 * 7 + 7 * 5 + sum(2 * 7 * wide[k] for k in left)
    assert made.after.macs == 16 * made.after.parameters
    feeds = random_feeds(coupling)
    masked = run(mask_dense(coupling, made), feeds)
    assert complaint(edited.model) == ""
    assert distance(run(edited.model, feeds), masked) <= 1e-5
    assert distance(run(coupling.view.model, feeds), masked) >= 1e-2


def test_a_sum_that_the_model_puts_out_keeps_its_name() -> None:
    model = blocks(1)
    model.graph.output.append(helper.make_tensor_value_info("a0", onnx.TensorProto.FLOAT, [1, 8, 4, 4]))
    coupling = analyse(model)
    made = plan_for(coupling, {}, dropped=["sum0"])
    edited = carry(coupling, made)
    assert [n.op_type for n in edited.model.proto.graph.node] == ["Conv", "Identity", "Conv"]
    assert edited.notes == ("sum0 is an Identity: its output is the model's",)
    feeds = random_feeds(coupling)
    assert distance(run(edited.model, feeds), run(mask_dense(coupling, made), feeds)) <= 1e-5


def test_a_pre_norm_transformer_block() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "embed"], ["h"]),
        helper.make_node("LayerNormalization", ["h", "gain", "bias"], ["n"], axis=-1),
        helper.make_node("MatMul", ["n", "up"], ["u"]),
        helper.make_node("Gelu", ["u"], ["g"]),
        helper.make_node("MatMul", ["g", "down"], ["d"]),
        helper.make_node("Add", ["h", "d"], ["o"], name="ffn"),
        helper.make_node("MatMul", ["o", "head"], ["y"]),
    ]
    weights = {"embed": (6, 8), "gain": (8,), "bias": (8,), "up": (8, 32), "down": (32, 8), "head": (8, 3)}
    coupling = analyse(make_model(nodes, {"x": (2, 6)}, ["y"], weights, opset=20))
    (block,) = coupling.blocks
    assert (block.entry, block.exit, block.branch, block.channels, len(block.nodes)) == ("h", "o", "d", 1, 5)
    made = plan_for(coupling, {}, dropped=["ffn"])
    assert made.after.parameters == 6 * 8 + 8 * 3
    assert [n.op_type for n in carry(coupling, made).model.proto.graph.node] == ["MatMul", "MatMul"]


@pytest.mark.parametrize("case", ["read elsewhere", "projection", "no weights", "broadcast"])
def test_what_is_no_block(case: str) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "stem"], ["s"]),
        helper.make_node("Conv", ["s", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
    ]
    weights: dict = {"stem": (8, 3, 1, 1), "w": (8, 8, 1, 1), "head": (5, 8, 1, 1)}
    last = "a"
    if case == "read elsewhere":
        nodes += [helper.make_node("Add", ["s", "r"], ["b"]), helper.make_node("Mul", ["b", "c"], ["a"])]
    elif case == "projection":
        weights["p"] = (8, 8, 1, 1)
        nodes += [helper.make_node("Conv", ["s", "p"], ["q"]), helper.make_node("Add", ["q", "r"], ["a"])]
    elif case == "no weights":
        nodes += [helper.make_node("Sigmoid", ["r"], ["g"]), helper.make_node("Add", ["r", "g"], ["a"])]
    else:
        nodes += [helper.make_node("GlobalAveragePool", ["r"], ["g"]), helper.make_node("Conv", ["g", "w"], ["v"]),
                  helper.make_node("Add", ["g", "r"], ["a"])]  # fmt: skip
    nodes.append(helper.make_node("Conv", [last, "head"], ["y"]))
    assert analyse(make_model(nodes, {"x": (1, 3, 4, 4)}, ["y"], weights)).blocks == ()


def test_a_name_that_the_model_does_not_have() -> None:
    coupling = analyse(blocks())
    with pytest.raises(PlanError, match="drops a block 'sum9'"):
        plan_for(coupling, {}, dropped=["sum9"])


def test_blocks_and_branches_of_other_models_are_left() -> None:
    coupling = analyse(blocks())
    assert coupling.cost(None, coupling.blocks[:1]).parameters == coupling.cost().parameters - 2 * 8 * 16
    assert np.all(coupling.without(coupling.blocks[:1]).macs_by_work(coupling.lengths())[1:3] == 0)
