"""Mixtures of experts in plain operators: whole experts, and the hidden units of all experts at once.

As exporters write Mixtral, Qwen-MoE, GPT-OSS and Llama 4, and as people write them by hand.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.ops.routing import ROUTED
from onnxprune.runtime.measure import measure_shapes
from tests.support.literals import constant, only
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly, distance, random_feeds, run
from tests.support.pruned import pruned

TOKENS, WIDTH, EXPERTS, HIDDEN = 7, 6, 4, 5
FAR_BELOW = -1e9


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


def routed(nodes: list[onnx.NodeProto], weights: dict | None = None, opset: int = 18) -> onnx.ModelProto:
    """x [7, 6] -> logits [7, 4] -> probabilities -> `nodes`, which read x, logits and probabilities and write out."""
    front = [
        make_node("MatMul", ["x", "w_router"], ["unbiased"]),
        make_node("Add", ["unbiased", "b_router"], ["logits"]),
        make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    common = {
        "w_router": [WIDTH, EXPERTS], "b_router": [EXPERTS], "up": [EXPERTS, WIDTH, HIDDEN], "b_up": [EXPERTS, HIDDEN],
        "down": [EXPERTS, HIDDEN, WIDTH], "one": ints(1), "two": ints(2), "last": ints(-1), "front": ints(0),
    }  # fmt: skip
    return make_model([*front, *nodes], {"x": [TOKENS, WIDTH]}, ["out"], {**common, **(weights or {})}, opset=opset)


def all_experts(gates: str) -> list[onnx.NodeProto]:
    """Every expert computes every token; `gates` [7, 4] weigh them."""
    return [
        make_node("Unsqueeze", ["x", "front"], ["x_all"]),
        make_node("MatMul", ["x_all", "up"], ["raised"]),
        make_node("Unsqueeze", ["b_up", "one"], ["b_rows"]),
        make_node("Add", ["raised", "b_rows"], ["biased"]),
        make_node("Relu", ["biased"], ["active"]),
        make_node("MatMul", ["active", "down"], ["by_expert"]),
        make_node("Transpose", [gates], ["gates_first"], perm=[1, 0]),
        make_node("Unsqueeze", ["gates_first", "last"], ["gate_columns"]),
        make_node("Mul", ["by_expert", "gate_columns"], ["weighed"]),
        make_node("ReduceSum", ["weighed", "front"], ["out"], keepdims=0),
    ]


TOP = make_node("TopK", ["probabilities", "two"], ["best", "which"], axis=-1)


def dense() -> onnx.ModelProto:
    """No choice: a soft mixture."""
    return routed(all_experts("probabilities"))


def einsum() -> onnx.ModelProto:
    """The same by einsum."""
    nodes = [
        make_node("Einsum", ["x", "up"], ["raised"], equation="tw,ewh->teh"),
        make_node("Add", ["raised", "b_up"], ["biased"]),
        make_node("Relu", ["biased"], ["active"]),
        make_node("Einsum", ["active", "down"], ["by_expert"], equation="teh,ehw->tew"),
        make_node("Einsum", ["by_expert", "probabilities"], ["out"], equation="tew,te->tw"),
    ]
    return routed(nodes)


def scattered() -> onnx.ModelProto:
    """Llama 4: the best scores among minus infinity, then a sigmoid; all experts compute."""
    nodes = [
        make_node("TopK", ["logits", "two"], ["best", "which"], axis=-1),
        make_node("Shape", ["logits"], ["size"]),
        make_node(
            "ConstantOfShape", ["size"], ["low"],
            value=numpy_helper.from_array(np.asarray([FAR_BELOW], np.float32)),
        ),
        make_node("ScatterElements", ["low", "which", "best"], ["chosen"], axis=1),
        make_node("Sigmoid", ["chosen"], ["gates"]),
        *all_experts("gates"),
    ]  # fmt: skip
    return routed(nodes)


def one_hot() -> onnx.ModelProto:
    """One-hot rows of the chosen, weighed and summed, give gates; all experts compute."""
    nodes = [
        TOP,
        make_node("OneHot", ["which", "depth", "off_on"], ["rows"], axis=-1),
        make_node("Unsqueeze", ["best", "last"], ["best_columns"]),
        make_node("Mul", ["rows", "best_columns"], ["marked"]),
        make_node("ReduceSum", ["marked", "one"], ["gates"], keepdims=0),
        *all_experts("gates"),
    ]
    return routed(nodes, {"depth": np.asarray(EXPERTS, np.int64), "off_on": np.asarray([0, 1], np.float32)})


def chosen_only(gather: str) -> list[onnx.NodeProto]:
    """Mixtral and Qwen-MoE as torch.export writes them: the weights of the chosen experts, token by token."""
    at = {"axis": 0} if gather == "Gather" else {}
    source = "flat" if gather == "Gather" else "tuples"
    return [
        TOP,
        make_node("Reshape", ["which", "last"], ["flat"]),
        make_node("Unsqueeze", ["flat", "last"], ["tuples"]),
        *(make_node(gather, [name, source], [f"{name}_chosen"], **at) for name in ("up", "b_up", "down")),
        make_node("Unsqueeze", ["x", "one"], ["x_once"]),
        make_node("Expand", ["x_once", "twice"], ["x_twice"]),
        make_node("Reshape", ["x_twice", "rows"], ["x_rows"]),
        make_node("MatMul", ["x_rows", "up_chosen"], ["raised"]),
        make_node("Unsqueeze", ["b_up_chosen", "one"], ["b_rows"]),
        make_node("Add", ["raised", "b_rows"], ["biased"]),
        make_node("Relu", ["biased"], ["active"]),
        make_node("MatMul", ["active", "down_chosen"], ["lowered"]),
        make_node("Reshape", ["lowered", "by_token"], ["by_choice"]),
        make_node("Unsqueeze", ["best", "last"], ["best_columns"]),
        make_node("Mul", ["by_choice", "best_columns"], ["weighed"]),
        make_node("ReduceSum", ["weighed", "one"], ["out"], keepdims=0),
    ]


def gathered(gather: str) -> onnx.ModelProto:
    weights = {"twice": ints(1, 2, 1), "rows": ints(2 * TOKENS, 1, WIDTH), "by_token": ints(TOKENS, 2, WIDTH)}
    return routed(chosen_only(gather), weights)


def switch() -> onnx.ModelProto:
    """Switch (https://arxiv.org/abs/2101.03961): the one best expert by ArgMax, its probability by GatherElements."""
    nodes = [
        make_node("ArgMax", ["probabilities"], ["which"], axis=-1, keepdims=1),
        make_node("GatherElements", ["probabilities", "which"], ["best"], axis=1),
        make_node("Squeeze", ["which", "last"], ["flat"]),
        *(make_node("Gather", [n, "flat"], [f"{n}_chosen"], axis=0) for n in ("up", "b_up", "down")),
        make_node("Unsqueeze", ["x", "one"], ["x_rows"]),
        make_node("MatMul", ["x_rows", "up_chosen"], ["raised"]),
        make_node("Unsqueeze", ["b_up_chosen", "one"], ["b_rows"]),
        make_node("Add", ["raised", "b_rows"], ["biased"]),
        make_node("Relu", ["biased"], ["active"]),
        make_node("MatMul", ["active", "down_chosen"], ["lowered"]),
        make_node("Squeeze", ["lowered", "one"], ["rows_out"]),
        make_node("Mul", ["rows_out", "best"], ["out"]),
    ]
    return routed(nodes)


FORMS = {
    "dense": (dense(), 0), "einsum": (einsum(), 0), "scattered scores": (scattered(), 2), "one-hot": (one_hot(), 2),
    "gathered": (gathered("Gather"), 2), "gathered by tuples": (gathered("GatherND"), 2), "switch": (switch(), 1),
}  # fmt: skip
EXPERT_AXES = ("w_router:1", "b_router:0", "up:0", "b_up:0", "down:0")


@pytest.mark.parametrize(("model", "picked"), FORMS.values(), ids=FORMS)
def test_experts_and_hidden_units(model: onnx.ModelProto, picked: int) -> None:
    """As many experts as are picked stay in any case: the first ones."""
    coupling = assert_prunes_exactly(model)
    kinds = {g.kind: g for g in coupling.groups}
    assert set(kinds) >= {"ffn"}
    hidden = units(coupling)[kinds["ffn"].name]
    assert hidden == [{"up:2": [i], "b_up:1": [i], "down:1": [i]} for i in range(HIDDEN)]
    assert kinds["ffn"].exact
    (experts,) = [members for members in units(coupling).values() if "b_router:0" in members[0]]
    first = max(0, picked - 1)
    assert experts == [{axis: [i] for axis in EXPERT_AXES} for i in range(first, EXPERTS)]
    (group,) = [g for g in coupling.groups if not g.exact]
    if picked:
        assert group.kind == "experts"
        assert ROUTED in group.mixes


@pytest.mark.parametrize(("model", "picked"), FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("gone", [[3], [1, 2]])
def test_without_an_expert_is_as_if_the_router_never_chose_it(
    model: onnx.ModelProto, picked: int, gone: list[int]
) -> None:
    coupling = analyse(model)
    (name,) = [n for n, members in units(coupling).items() if "b_router:0" in members[0]]
    first = max(0, picked - 1)
    kept = [i - first for i in range(first, EXPERTS) if i not in gone]
    edited = analyse(pruned(model, {name: kept})).view.model
    shunned = onnx.ModelProto.FromString(model.SerializeToString())
    for tensor in shunned.graph.initializer:
        if tensor.name == "b_router":
            bias = numpy_helper.to_array(tensor).copy()
            bias[gone] = FAR_BELOW
            tensor.CopyFrom(numpy_helper.from_array(bias, "b_router"))
    fed = random_feeds(coupling)
    expected = run(analyse(shunned).view.model, fed)
    assert distance(run(edited, fed), expected) <= 1e-5
    assert distance(run(coupling.view.model, fed), expected) >= 1e-3


def test_the_depth_of_one_hot_rows_follows() -> None:
    model = one_hot()
    edited = pruned(model, {"w_router:1": [0, 2]})
    assert constant(edited, only(edited, "OneHot").input[1]).tolist() == 3


def test_all_that_the_router_picks_stay() -> None:
    model = gathered("Gather")
    for tensor in model.graph.initializer:
        if tensor.name == "two":
            tensor.CopyFrom(numpy_helper.from_array(ints(EXPERTS), "two"))
        if tensor.name == "twice":
            tensor.CopyFrom(numpy_helper.from_array(ints(1, EXPERTS, 1), "twice"))
        if tensor.name == "rows":
            tensor.CopyFrom(numpy_helper.from_array(ints(EXPERTS * TOKENS, 1, WIDTH), "rows"))
        if tensor.name == "by_token":
            tensor.CopyFrom(numpy_helper.from_array(ints(TOKENS, EXPERTS, WIDTH), "by_token"))
    coupling = analyse(model)
    assert [g.kind for g in coupling.groups] == ["ffn"]
    assert any("the router picks 4, so as many stay" in r.why for r in coupling.refusals)


def test_positions_that_mean_something_else_keep_all_experts() -> None:
    """A bonus that depends on an expert's number: experts stay."""
    nodes = [
        *chosen_only("Gather"),
        make_node("Cast", ["which"], ["numbers"], to=onnx.TensorProto.FLOAT),
        make_node("ReduceSum", ["numbers"], ["all_numbers"], keepdims=1),
    ]
    nodes[-3] = make_node("ReduceSum", ["weighed", "one"], ["summed"], keepdims=0)
    nodes.append(make_node("Add", ["summed", "all_numbers"], ["out"]))
    weights = {"twice": ints(1, 2, 1), "rows": ints(2 * TOKENS, 1, WIDTH), "by_token": ints(TOKENS, 2, WIDTH)}
    coupling = analyse(routed(nodes, weights))
    assert [g.kind for g in coupling.groups] == ["ffn"]
    assert any("positions along it are given out as indices" in r.why for r in coupling.refusals)


def test_experts_one_after_the_other() -> None:
    """Mixtral's loop unrolled: rows of each expert's tokens. A branch belongs to an expert, so none can go; the hidden
    units of each expert are its own.
    """
    nodes = [make_node("TopK", ["probabilities", "one"], ["best", "which"], axis=-1)]
    nodes.append(make_node("OneHot", ["which", "depth", "off_on"], ["rows"], axis=-1))
    nodes.append(make_node("Transpose", ["rows"], ["masks"], perm=[2, 1, 0]))
    weights: dict = {
        "depth": np.asarray(2, np.int64), "off_on": ints(0, 1), "w_router": [WIDTH, 2], "b_router": [2],
        "sum0": np.zeros((TOKENS, WIDTH), np.float32),
    }  # fmt: skip
    for e in range(2):
        weights |= {f"i{e}": np.asarray(e, np.int64), f"up{e}": [WIDTH, HIDDEN], f"down{e}": [HIDDEN, WIDTH]}
        nodes += [
            make_node("Gather", ["masks", f"i{e}"], [f"mask{e}"], axis=0),
            make_node("NonZero", [f"mask{e}"], [f"places{e}"]),
            make_node("Split", [f"places{e}"], [f"rank{e}", f"token{e}"], axis=0, num_outputs=2),
            make_node("Squeeze", [f"token{e}", "front"], [f"tokens{e}"]),
            make_node("Gather", ["x", f"tokens{e}"], [f"x{e}"], axis=0),
            make_node("MatMul", [f"x{e}", f"up{e}"], [f"raised{e}"]),
            make_node("Relu", [f"raised{e}"], [f"active{e}"]),
            make_node("MatMul", [f"active{e}", f"down{e}"], [f"lowered{e}"]),
            make_node("Unsqueeze", [f"tokens{e}", "last"], [f"rows{e}"]),
            make_node("ScatterND", [f"sum{e}", f"rows{e}", f"lowered{e}"], [f"sum{e + 1}"], reduction="add"),
        ]
    nodes.append(make_node("Identity", ["sum2"], ["out"]))
    model = routed(nodes, weights)
    coupling = analyse(model, measure=measure_shapes)
    assert list(units(coupling).values()) == [
        [{f"up{e}:1": [i], f"down{e}:0": [i]} for i in range(HIDDEN)] for e in range(2)
    ]
    assert any("is taken alone" in r.why for r in coupling.refusals if r.tensor == "w_router")
