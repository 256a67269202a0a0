"""If, Loop and Scan: what couples through bodies, and that what is pruned equals the masked dense model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.coupling.coupling import Coupling
from onnxprune.edit import edit
from tests.support.bodies import FLOAT, body, constant, weight
from tests.support.literals import group_with
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly, complaint, random_feeds
from tests.support.pruned import pruned
from tests.support.sandwich import one_by_one, taking

BOOL, INT64 = TensorProto.BOOL, TensorProto.INT64
WIDTH, MIDDLE = 6, 5
STEPS, HIDDEN = 4, 5
Nodes = Sequence[onnx.NodeProto]


def branched(
    then: onnx.GraphProto,
    other: onnx.GraphProto,
    *,
    before: Nodes = (),
    weights: Mapping[str, np.ndarray] | None = None,
    reads: int = MIDDLE,
    inputs: Mapping[str, Sequence[int]] | None = None,
) -> onnx.ModelProto:
    """x [4, 3] -> MatMul w1 -> h [4, 6]; y is `then` or `other` as `flag` says; y -> MatMul w2 -> out [4, 2]."""
    return make_model(
        [
            make_node("MatMul", ["x", "w1"], ["h"]),
            *before,
            make_node("If", ["flag"], ["y"], name="choose", then_branch=then, else_branch=other),
            make_node("MatMul", ["y", "w2"], ["out"]),
        ],
        {"x": (4, 3), "flag": (), **(inputs or {})},
        ["out"],
        {"w1": weight(3, WIDTH, seed=1), "w2": weight(reads, 2, seed=2), **(weights or {})},
        input_types={"flag": BOOL},
    )


def assert_both_ways(model: onnx.ModelProto, *, seeds: Sequence[int] = range(3)) -> Coupling:
    """`assert_prunes_exactly` with the flag up and down."""
    for flag in (True, False):
        feeds = {**random_feeds(analyse(model)), "flag": np.asarray(flag)}
        coupling = assert_prunes_exactly(model, feeds=feeds, seeds=seeds)
    return coupling


def assert_units(source: onnx.ModelProto | Coupling, *expected: Sequence[Mapping[str, list[int]]]) -> None:
    """The model's groups, in any order, have these units."""
    coupling = source if isinstance(source, Coupling) else analyse(source)
    found = list(units(coupling).values())
    assert sorted(map(_plain, found)) == sorted(map(_plain, expected))


def _plain(group: Sequence[Mapping[str, list[int]]]) -> list[list[tuple[str, list[int]]]]:
    return [sorted(unit.items()) for unit in group]


def reasons(coupling: Coupling) -> dict[str, str]:
    """The reason for each stored axis that stays, by "tensor:axis"."""
    return {f"{r.tensor}:{r.axis}": r.why for r in coupling.refusals}


def product(w: str, out: str = "t", x: str = "h") -> onnx.NodeProto:
    return make_node("MatMul", [x, w], [out])


# -- If --------------------------------------------------------------------------------------------------------------


def test_a_unit_is_what_both_branches_have_of_it() -> None:
    then = body([product("a")], ["t"], {"a": weight(WIDTH, MIDDLE)})
    other = body([constant("b", weight(WIDTH, MIDDLE, seed=3)), product("b", "e")], ["e"])
    model = branched(then, other)
    assert_units(
        model,
        one_by_one(WIDTH, "w1:1", "a:0", "b:0"),
        one_by_one(MIDDLE, "w2:0", "a:1", "b:1"),
    )
    assert_both_ways(model)


def test_names_that_both_branches_use_are_two_values() -> None:
    then = body([product("a")], ["t"], {"a": weight(WIDTH, MIDDLE)})
    other = body([product("a")], ["t"], {"a": weight(WIDTH, MIDDLE, seed=3)})
    model = branched(then, other)
    assert_units(
        model,
        one_by_one(WIDTH, "w1:1", "a:0", "a@y/then_branch:0"),
        one_by_one(MIDDLE, "w2:0", "a:1", "a@y/then_branch:1"),
    )
    assert_both_ways(model)
    edited = pruned(model, {group_with(model, "w2:0", 0): [0, 3]})
    (node,) = [n for n in edited.graph.node if n.op_type == "If"]
    for attr in node.attribute:
        (cut,), seed = attr.g.initializer, {"then_branch": 0, "else_branch": 3}[attr.name]
        assert cut.name == "a"
        assert np.array_equal(numpy_helper.to_array(cut), weight(WIDTH, MIDDLE, seed=seed)[:, [0, 3]])


def test_an_outer_weight_that_both_branches_read_is_one() -> None:
    then = body([product("shared"), make_node("Relu", ["t"], ["r"])], ["r"])
    other = body([product("shared", "e"), make_node("Tanh", ["e"], ["q"])], ["q"])
    model = branched(then, other, weights={"shared": weight(WIDTH, MIDDLE)})
    assert units(analyse(model))["shared:1"] == one_by_one(MIDDLE, "shared:1", "w2:0")
    assert_both_ways(model)


def test_units_inside_one_branch_are_its_own() -> None:
    then = body([product("a"), product("a2", "u", "t")], ["u"], {"a": weight(WIDTH, 7), "a2": weight(7, MIDDLE)})
    other = body([product("b", "e")], ["e"], {"b": weight(WIDTH, MIDDLE, seed=3)})
    model = branched(then, other)
    assert units(analyse(model))["a:1"] == one_by_one(7, "a:1", "a2:0")
    assert_both_ways(model)


def test_branches_of_different_shapes_stay_as_they_are() -> None:
    """[4, 5] or [4, 1], which w2 multiplies by broadcasting."""
    then = body([product("a")], ["t"], {"a": weight(WIDTH, MIDDLE)})
    other = body([product("b", "e")], ["e"], {"b": weight(WIDTH, 1)})
    model = make_model(
        [
            product("w1", "h", "x"),
            make_node("If", ["flag"], ["y"], name="choose", then_branch=then, else_branch=other),
            make_node("Mul", ["y", "w2"], ["out"]),
        ],
        {"x": (4, 3), "flag": ()},
        ["out"],
        {"w1": weight(3, WIDTH), "w2": weight(1, MIDDLE)},
        input_types={"flag": BOOL},
    )
    coupling = analyse(model)
    assert [g.name for g in coupling.groups] == ["w1:1"]
    assert reasons(coupling)["a:1"].startswith("the bodies of the If give different shapes, [4, 5] and [4, 1]")
    assert_prunes_exactly(model)


def test_what_one_branch_must_keep_the_other_keeps() -> None:
    """The else branch gives a graph input as it came."""
    then = body([product("a")], ["t"], {"a": weight(WIDTH, MIDDLE)})
    other = body([make_node("Identity", ["given"], ["e"])], ["e"])
    coupling = analyse(branched(then, other, inputs={"given": (4, MIDDLE)}))
    assert [g.name for g in coupling.groups] == ["w1:1"]
    assert reasons(coupling)["a:1"] == "an input of the model [given:1]"
    assert reasons(coupling)["w2:0"] == "an input of the model [given:1]"


def test_a_body_that_is_nested_twice_sees_all_around_it() -> None:
    inner = [body([product("b", o, "m")], [o]) for o in ("p", "q")]
    then = body(
        [product("a", "m"), make_node("If", ["flag"], ["u"], then_branch=inner[0], else_branch=inner[1])], ["u"],
        {"a": weight(WIDTH, 7), "b": weight(7, MIDDLE)},
    )  # fmt: skip
    other = body([product("c", "e")], ["e"], {"c": weight(WIDTH, MIDDLE, seed=3)})
    model = branched(then, other)
    assert units(analyse(model))["a:1"] == one_by_one(7, "a:1", "b:0")
    assert_both_ways(model)


def test_sizes_written_in_a_body_follow() -> None:
    """Heads split and joined by Reshape inside each branch; one of the target shapes is shared by both."""
    split, join = np.asarray([4, 2, 3]), np.asarray([4, 6])

    def branch(w: str, out: str, own: Nodes, target: str) -> onnx.GraphProto:
        nodes = [
            *own,
            make_node("Reshape", ["h", target], [f"{out}1"]),
            make_node("Relu", [f"{out}1"], [f"{out}2"]),
            make_node("Reshape", [f"{out}2", "join"], [f"{out}3"]),
            product(w, out, f"{out}3"),
        ]
        return body(nodes, [out], {w: weight(WIDTH, MIDDLE, seed=len(w))})

    then = branch("a", "t", [constant("split", split)], "split")
    other = branch("bb", "e", [], "join0")
    model = branched(then, other, weights={"join": join, "join0": split})
    assert units(analyse(model))["w1:1"][0] == taking([0, 1, 2], "w1:1", "a:0", "bb:0")
    assert_both_ways(model)
    edited = pruned(model, {"w1:1": [0]})
    (node,) = [n for n in edited.graph.node if n.op_type == "If"]
    bodies = {a.name: a.g for a in node.attribute}
    assert numpy_helper.to_array(bodies["then_branch"].node[0].attribute[0].t).tolist() == [4, 1, 3]
    stored = {t.name: numpy_helper.to_array(t) for t in edited.graph.initializer}
    assert stored["join0"].tolist() == [4, 1, 3]


def test_a_bias_that_branches_share_is_cut_for_each() -> None:
    """Unrelated layers in both branches and outside read one vector of zeros, as exporters share them."""
    then = body(
        [product("a"), make_node("Add", ["t", "zeros"], ["s"]), product("a2", "u", "s")], ["u"],
        {"a": weight(WIDTH, WIDTH), "a2": weight(WIDTH, MIDDLE)},
    )  # fmt: skip
    other = body([product("b", "e")], ["e"], {"b": weight(WIDTH, MIDDLE, seed=3)})
    before = [make_node("Add", ["h", "zeros"], ["g"])]
    model = branched(then, other, before=before, weights={"zeros": weight(WIDTH, seed=9)})
    for graph in (then, other):
        assert all("zeros" not in [t.name for t in graph.initializer] for t in graph.initializer)
    found = units(analyse(model))
    assert found["a:1"] == one_by_one(WIDTH, "a:1", "a2:0", "zeros:0")
    assert_both_ways(model)


def test_a_body_that_never_runs_has_no_say() -> None:
    """The condition is a constant; the other body gives another shape."""
    then = body([product("a")], ["t"], {"a": weight(WIDTH, MIDDLE)})
    other = body([make_node("Transpose", ["h"], ["e"], perm=[1, 0])], ["e"])
    model = branched(then, other, before=[constant("known", np.asarray(True))])
    model.graph.node[2].input[0] = "known"
    del model.graph.input[1]
    assert_units(model, one_by_one(WIDTH, "w1:1", "a:0"), one_by_one(MIDDLE, "w2:0", "a:1"))
    assert_prunes_exactly(model)


def squeezing(length: int | str) -> onnx.ModelProto:
    """How scripted torch writes squeeze(1): x [batch, length, 3] -> h; Squeeze where the length is 1, else as it is."""
    then = body([constant("axis", np.asarray([1])), make_node("Squeeze", ["h", "axis"], ["t"])], ["t"])
    other = body([make_node("Identity", ["h"], ["e"])], ["e"])
    nodes = [
        product("w1", "h", "x"),
        make_node("Shape", ["h"], ["sizes"]),
        make_node("Gather", ["sizes", "one"], ["length"]),
        make_node("Equal", ["length", "one"], ["flag"]),
        make_node("If", ["flag"], ["y"], name="choose", then_branch=then, else_branch=other),
        product("w2", "out", "y"),
    ]
    weights = {"w1": weight(3, WIDTH), "w2": weight(WIDTH, 2), "one": np.asarray([1])}
    return make_model(nodes, {"x": (2, length, 3)}, ["out"], weights)


def test_sizes_decide_which_body_runs() -> None:
    assert_units(squeezing(1), one_by_one(WIDTH, "w1:1", "w2:0"))
    assert_prunes_exactly(squeezing(1))


def test_a_body_that_never_runs_need_not_work() -> None:
    """How scripted torch tells a batch from a single sample: by the rank. The body for the latter cannot run here."""
    then = body([constant("axis", np.asarray([1])), make_node("Squeeze", ["h", "axis"], ["t"])], ["t"])
    other = body([make_node("Identity", ["h"], ["e"])], ["e"])
    nodes = [
        product("w1", "h", "x"),
        make_node("Shape", ["h"], ["sizes"]),
        make_node("Size", ["sizes"], ["rank"]),
        make_node("Equal", ["rank", "two"], ["flag"]),
        make_node("If", ["flag"], ["y"], then_branch=then, else_branch=other),
        product("w2", "out", "y"),
    ]
    weights = {"w1": weight(3, WIDTH), "w2": weight(WIDTH, 2), "two": np.asarray(2)}
    model = make_model(nodes, {"x": (2, "length", 3)}, ["out"], weights)
    assert_units(assert_prunes_exactly(model, bind={"length": 4}), one_by_one(WIDTH, "w1:1", "w2:0"))


def test_where_a_dynamic_size_decides_axes_longer_than_one_match() -> None:
    coupling = assert_prunes_exactly(squeezing("length"), bind={"length": 1})
    assert_units(coupling, one_by_one(WIDTH, "w1:1", "w2:0"))


def test_a_body_that_does_not_work_at_the_bound_sizes_freezes_what_it_reads() -> None:
    """Squeeze of an axis of 4: the body runs at other sizes, and what it does there is not known."""
    coupling = analyse(squeezing("length"), bind={"length": 4})
    assert coupling.groups == ()
    assert "w1:1" in reasons(coupling)
    assert any("shape of t is unknown" in why for why in reasons(coupling).values())


def test_a_condition_that_would_turn_with_the_sizes_keeps_its_value() -> None:
    """Two channels left of which one goes: a width of 1 must not make the model squeeze it."""
    then = body([constant("axis", np.asarray([1])), make_node("ReduceSum", ["h", "axis"], ["t"])], ["t"])
    other = body([make_node("Relu", ["h"], ["e"])], ["e"])
    nodes = [
        product("w1", "h", "x"),
        make_node("Shape", ["h"], ["sizes"]),
        make_node("Gather", ["sizes", "one"], ["width"]),
        make_node("Equal", ["width", "one"], ["flag"]),
        make_node("If", ["flag"], ["y"], then_branch=then, else_branch=other),
        product("w2", "out", "y"),
    ]
    weights = {"w1": weight(3, 2), "w2": weight(2, 4), "one": np.asarray([1])}
    assert_prunes_exactly(make_model(nodes, {"x": (4, 3)}, ["out"], weights))


# -- Loop ------------------------------------------------------------------------------------------------------------


def looped(
    nodes: Nodes,
    weights: Mapping[str, np.ndarray],
    *,
    outer: Mapping[str, np.ndarray] | None = None,
    start: str = "h0",
    before: Nodes = (),
    stacked: str = "",
    trips: int = STEPS,
) -> onnx.ModelProto:
    """x [2, 3]; a state h [2, 5] from `start`, through `nodes` to `g`, `trips` times; then MatMul w2.

    With `stacked` this value of every iteration is put out too, as `all`.
    """
    cell = body(
        [make_node("Identity", ["go"], ["goes"]), *nodes],
        ["goes", "g", *([stacked] if stacked else [])],
        weights,
        {"i": (INT64, []), "go": (BOOL, []), "h": (FLOAT, None)},
        {"goes": BOOL},
    )
    outputs = ["out", *(["all"] if stacked else [])]
    model = make_model(
        [
            *before,
            make_node("Loop", ["trips", "", start], ["last", *(["all"] if stacked else [])], name="repeat", body=cell),
            product("w2", "out", "last"),
        ],
        {"x": (2, 3)},
        outputs,
        {"trips": np.asarray(trips), "h0": weight(2, HIDDEN, seed=5), "w2": weight(HIDDEN, 2, seed=2), **(outer or {})},
    )
    return model


RNN = (
    make_node("MatMul", ["x", "wx"], ["from_x"]),
    make_node("MatMul", ["h", "wh"], ["from_h"]),
    make_node("Add", ["from_x", "from_h"], ["sum"]),
    make_node("Add", ["sum", "bias"], ["biased"]),
    make_node("Tanh", ["biased"], ["g"]),
)
RNN_WEIGHTS = {"wx": weight(3, HIDDEN), "wh": weight(HIDDEN, HIDDEN, seed=4), "bias": weight(HIDDEN, seed=6)}


def test_a_state_is_one_width_before_in_and_after_the_iterations() -> None:
    model = looped(RNN, RNN_WEIGHTS)
    assert_units(
        model,
        one_by_one(HIDDEN, "h0:1", "w2:0", "wx:1", "wh:0", "wh:1", "bias:0"),
    )
    assert_prunes_exactly(model)


def test_weights_around_a_loop_are_cut_as_those_inside() -> None:
    model = looped(RNN, {}, outer=RNN_WEIGHTS)
    assert_units(model, one_by_one(HIDDEN, "h0:1", "w2:0", "wx:1", "wh:0", "wh:1", "bias:0"))
    assert_prunes_exactly(model)


def test_a_state_that_starts_from_what_a_layer_gives() -> None:
    model = looped(
        RNN, RNN_WEIGHTS, start="first", before=[product("w0", "first", "x")], outer={"w0": weight(3, HIDDEN)}
    )
    assert units(analyse(model))["w0:1"] == one_by_one(HIDDEN, "w0:1", "w2:0", "wx:1", "wh:0", "wh:1", "bias:0")
    assert_prunes_exactly(model)


def test_what_iterations_put_out_is_stacked() -> None:
    """Three units of each iteration are put out, and MatMul w3 reads them: one axis more, in front."""
    model = looped([*RNN, product("wo", "o", "g")], {**RNN_WEIGHTS, "wo": weight(HIDDEN, 7)}, stacked="o")
    del model.graph.output[1]
    model.graph.node.append(product("w3", "late", "all"))
    model.graph.initializer.append(numpy_helper.from_array(weight(7, 2), "w3"))
    model.graph.output.append(onnx.helper.make_tensor_value_info("late", FLOAT, [STEPS, 2, 2]))
    state = one_by_one(HIDDEN, "h0:1", "w2:0", "wx:1", "wh:0", "wh:1", "bias:0", "wo:0")
    assert_units(model, state, one_by_one(7, "wo:1", "w3:0"))
    assert_prunes_exactly(model)


def test_the_iterations_of_what_is_stacked_stay() -> None:
    model = looped([*RNN, product("wo", "o", "g")], {**RNN_WEIGHTS, "wo": weight(HIDDEN, 7)}, stacked="o")
    del model.graph.output[1]
    model.graph.node.append(make_node("Mul", ["all", "per_step"], ["late"]))
    model.graph.initializer.append(numpy_helper.from_array(weight(STEPS, 1, 1), "per_step"))
    model.graph.output.append(onnx.helper.make_tensor_value_info("late", FLOAT, [STEPS, 2, 7]))
    assert reasons(analyse(model))["per_step:0"].startswith("iterations stay")


def test_a_state_that_grows_stays_as_it_is() -> None:
    """Each iteration appends a row: only what is inside one iteration can go."""
    nodes = [
        product("a", "t", "x"),
        make_node("Relu", ["t"], ["r"]),
        product("b", "row", "r"),
        make_node("Concat", ["h", "row"], ["g"], axis=0),
    ]
    model = looped(nodes, {"a": weight(3, 4), "b": weight(4, HIDDEN)})
    model.graph.output[0].type.tensor_type.ClearField("shape")
    coupling = analyse(model)
    assert_units(coupling, one_by_one(4, "a:1", "b:0"))
    assert set(reasons(coupling)) == {"a:0", "b:1", "h0:0", "h0:1", "w2:0", "w2:1"}
    assert_prunes_exactly(model)


def test_a_branch_inside_a_loop() -> None:
    """An LSTM-like choice by the data: the state is doubled, or goes through a layer of its own."""
    then = body([make_node("Add", ["g0", "g0"], ["p"])], ["p"])
    other = body([product("wi", "q", "g0")], ["q"], {"wi": weight(HIDDEN, HIDDEN, seed=8)})
    nodes = [
        *RNN[:-1],
        make_node("Tanh", ["biased"], ["g0"]),
        make_node("Mod", ["i", "two"], ["odd"]),
        make_node("Cast", ["odd"], ["flag"], to=BOOL),
        make_node("If", ["flag"], ["g"], then_branch=then, else_branch=other),
    ]
    model = looped(nodes, {**RNN_WEIGHTS, "two": np.asarray(2)})
    axes = ("h0:1", "w2:0", "wx:1", "wh:0", "wh:1", "bias:0", "wi:0", "wi:1")
    assert_units(model, one_by_one(HIDDEN, *axes))
    assert_prunes_exactly(model)


def test_a_loop_in_a_loop() -> None:
    inner = body(
        [make_node("Identity", ["go2"], ["goes2"]), product("wi", "z", "k"), make_node("Tanh", ["z"], ["k2"])],
        ["goes2", "k2"], {"wi": weight(HIDDEN, HIDDEN, seed=8)},
        {"i2": (INT64, []), "go2": (BOOL, []), "k": (FLOAT, None)}, {"goes2": BOOL},
    )  # fmt: skip
    nodes = [
        *RNN[:-1],
        make_node("Tanh", ["biased"], ["g0"]),
        make_node("Loop", ["three", "", "g0"], ["g"], body=inner),
    ]
    model = looped(nodes, {**RNN_WEIGHTS, "three": np.asarray(3)})
    axes = ("h0:1", "w2:0", "wx:1", "wh:0", "wh:1", "bias:0", "wi:0", "wi:1")
    assert_units(model, one_by_one(HIDDEN, *axes))
    assert_prunes_exactly(model)


def test_iterations_count_in_the_cost() -> None:
    """w2 once, wx and wh four times, wi three times in each of these."""
    model = looped(RNN, RNN_WEIGHTS)
    rows = 2
    once, cell = rows * HIDDEN * 2, rows * (3 * HIDDEN + HIDDEN * HIDDEN)
    assert analyse(model).cost().macs == once + STEPS * cell
    assert analyse(looped(RNN, RNN_WEIGHTS, trips=7)).cost().macs == once + 7 * cell


# -- Scan ------------------------------------------------------------------------------------------------------------


def scanned(x: Sequence[int], **attributes: object) -> onnx.ModelProto:
    """x, cut along one axis into [2, 3], through the RNN; every state is put out, and MatMul w2 reads them all."""
    cell = body(
        [*RNN[:-1], make_node("Tanh", ["biased"], ["g"]), make_node("Identity", ["g"], ["each"])],
        ["g", "each"],
        RNN_WEIGHTS,
        {"h": (FLOAT, None), "x": (FLOAT, None)},
    )
    return make_model(
        [
            make_node("Scan", ["h0", "sequence"], ["last", "all"], body=cell, num_scan_inputs=1, **attributes),
            product("w2", "out", "all"),
        ],
        {"sequence": x},
        ["out"],
        {"h0": weight(2, HIDDEN, seed=5), "w2": weight(HIDDEN, 2, seed=2)},
    )


@pytest.mark.parametrize(
    ("shape", "attributes"),
    [
        ((STEPS, 2, 3), {}),
        ((2, STEPS, 3), {"scan_input_axes": [1], "scan_output_axes": [1]}),
        ((2, 3, STEPS), {"scan_input_axes": [-1], "scan_output_axes": [-2], "scan_input_directions": [1]}),
    ],
)
def test_a_recurrent_cell_in_a_scan(shape: tuple[int, ...], attributes: dict[str, object]) -> None:
    model = scanned(shape, **attributes)
    assert_units(
        model,
        one_by_one(HIDDEN, "h0:1", "w2:0", "wx:1", "wh:0", "wh:1", "bias:0"),
    )
    assert_prunes_exactly(model)
    assert analyse(model).cost().macs == STEPS * 2 * (3 * HIDDEN + HIDDEN * HIDDEN + HIDDEN * 2)


def test_features_of_what_a_scan_reads_can_go() -> None:
    """x [3, 4, 2] -> MatMul w0 -> [3, 4, 6], of which an iteration has [4, 6]."""
    cell = body(
        [product("a", "t", "part"), make_node("Add", ["s", "t"], ["s2"])], ["s2"], {"a": weight(WIDTH, HIDDEN)},
        {"s": (FLOAT, None), "part": (FLOAT, None)},
    )  # fmt: skip
    nodes = [
        product("w0", "seq", "x"),
        make_node("Scan", ["s0", "seq"], ["last"], body=cell, num_scan_inputs=1),
        product("w2", "out", "last"),
    ]
    weights = {"w0": weight(2, WIDTH), "s0": weight(4, HIDDEN), "w2": weight(HIDDEN, 2)}
    model = make_model(nodes, {"x": (3, 4, 2)}, ["out"], weights)
    assert_units(
        model,
        one_by_one(WIDTH, "w0:1", "a:0"),
        one_by_one(HIDDEN, "s0:1", "w2:0", "a:1"),
    )
    assert_prunes_exactly(model)


# -- what is not understood ------------------------------------------------------------------------------------------


def test_a_body_of_an_unknown_operator_stays_with_reasons() -> None:
    own = body([product("a")], ["t"], {"a": weight(WIDTH, MIDDLE)}, {"h2": (FLOAT, None)})
    model = make_model(
        [
            product("w1", "h", "x"),
            make_node("Search", ["h"], ["y"], domain="some.where", decoder=own),
            product("w2", "out", "y"),
        ],
        {"x": (4, 3)},
        ["out"],
        {"w1": weight(3, WIDTH), "w2": weight(MIDDLE, 2)},
        opsets={"some.where": 1},
    )
    coupling = analyse(model)
    assert coupling.groups == ()
    assert {"w1:1", "a:1", "w2:0"} <= set(reasons(coupling))
    assert reasons(coupling)["w1:1"].startswith("no rule for the operator some.where.Search")


def test_what_is_stated_inside_bodies_follows() -> None:
    then = body([product("a")], ["t"], {"a": weight(WIDTH, MIDDLE)})
    other = body([product("b", "e")], ["e"], {"b": weight(WIDTH, MIDDLE, seed=3)})
    then.output[0].CopyFrom(onnx.helper.make_tensor_value_info("t", FLOAT, [4, MIDDLE]))
    other.value_info.append(onnx.helper.make_tensor_value_info("e", FLOAT, [4, MIDDLE]))
    model = branched(then, other)
    edited = pruned(model, {group_with(model, "w2:0", 0): [1, 2]})
    (node,) = [n for n in edited.graph.node if n.op_type == "If"]
    bodies = {a.name: a.g for a in node.attribute}
    stated = (bodies["then_branch"].output[0], bodies["else_branch"].value_info[0])
    assert [[d.dim_value for d in info.type.tensor_type.shape.dim] for info in stated] == [[4, 2], [4, 2]]
    assert complaint(type(analyse(model).view.model)(edited)) == ""


def test_a_body_without_changes_stays_byte_for_byte() -> None:
    then = body([product("a"), product("a2", "u", "t")], ["u"], {"a": weight(WIDTH, 7), "a2": weight(7, MIDDLE)})
    other = body([product("b", "e")], ["e"], {"b": weight(WIDTH, MIDDLE, seed=3)})
    model = branched(then, other)
    coupling = analyse(model)
    (group,) = [g for g in coupling.groups if g.name == "a:1"]
    edited = edit(coupling, coupling.removed_classes({group.index: [0, 1]})).model.to_proto()
    before, after = (next(n for n in m.graph.node if n.op_type == "If") for m in (model, edited))
    untouched = [{a.name: a.g for a in n.attribute}["else_branch"] for n in (before, after)]
    assert untouched[0].SerializeToString() == untouched[1].SerializeToString()
    assert [n.op_type for n in after.attribute[0].g.node] == [n.op_type for n in before.attribute[0].g.node]
