"""Cutting: where, and that the pieces do together what the model does."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxprune.analyse import analyse
from onnxprune.edit import edit
from onnxprune.graph.io import load
from onnxprune.runtime.ort import RunOptions
from onnxprune.runtime.segments import feeds_of, find_cuts, segment_runners
from tests.support.models import make_model
from tests.support.oracle import run
from tests.support.planning import conv_chain

ONE = RunOptions(threads=1)


def residual() -> onnx.ModelProto:
    """8 channels through two blocks of 16, with a shortcut around each."""
    nodes = [helper.make_node("Conv", ["x", "stem"], ["s"], name="stem")]
    weights: dict = {"stem": (8, 3, 1, 1), "head": (5, 8, 1, 1)}
    value = "s"
    for k in range(2):
        nodes += [
            helper.make_node("Conv", [value, f"up{k}"], [f"u{k}"]),
            helper.make_node("Relu", [f"u{k}"], [f"r{k}"]),
            helper.make_node("Conv", [f"r{k}", f"down{k}"], [f"d{k}"]),
            helper.make_node("Add", [f"d{k}", value], [f"a{k}"]),
        ]
        weights |= {f"up{k}": (16, 8, 1, 1), f"down{k}": (8, 16, 1, 1)}
        value = f"a{k}"
    nodes.append(helper.make_node("Conv", [value, "head"], ["y"]))
    return make_model(nodes, {"x": (1, 3, 4, 4)}, ["y"], weights)


def test_cuts_are_between_blocks() -> None:
    coupling = analyse(residual())
    cuts = find_cuts(coupling)
    assert cuts.after == ("s", "a0", "a1")
    assert cuts.segment_of(coupling).tolist() == [0, 1, 1, 1, 1, 2, 2, 2, 2, 3]


def test_an_activation_stays_with_its_layer_and_wide_values_inside() -> None:
    assert find_cuts(analyse(conv_chain((8, 32, 8)))).after == ("r0", "r2")
    assert find_cuts(analyse(conv_chain((8, 8)))).after == ("r0", "r1")


def test_long_segments_are_cut_all_the_same() -> None:
    rising = analyse(conv_chain(tuple(range(2, 34, 2))))  # no cut but the first is narrow
    works = np.bincount(find_cuts(rising).segment_of(rising)[rising.work_sites])
    assert works.max() <= 6


@pytest.mark.parametrize("model", [conv_chain((8, 32, 8)), residual()], ids=["chain", "residual"])
@pytest.mark.parametrize("pruned", [False, True])
def test_the_segments_make_what_the_model_makes(model: onnx.ModelProto, pruned: bool) -> None:
    coupling = analyse(model)
    kept = {g.index: range(g.size - 3 if pruned else g.size) for g in coupling.groups}
    edited = edit(coupling, coupling.removed_classes(kept)).model
    feeds = feeds_of(coupling, edited, 0)
    runners = segment_runners(edited, find_cuts(coupling), feeds, ONE)
    value = feeds["x"]
    for runner in runners:
        (entry,) = runner.session.get_inputs()
        (value,) = runner.session.run(None, {entry.name: value})
    np.testing.assert_allclose(value, run(edited, feeds)[0], rtol=1e-4, atol=1e-4)


def test_weights_that_nodes_make_come_with_who_reads_them() -> None:
    nodes = [
        helper.make_node("Transpose", ["w1t"], ["w1"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "w0"], ["a"]),
        helper.make_node("MatMul", ["a", "w1"], ["b"]),
        helper.make_node("MatMul", ["b", "w2"], ["y"]),
    ]
    model = make_model(nodes, {"x": (4, 8)}, ["y"], {"w0": (8, 6), "w1t": (6, 6), "w2": (6, 2)})
    coupling = analyse(model)
    assert find_cuts(coupling).after == ("a", "b")
    runners = segment_runners(load(model), find_cuts(coupling), feeds_of(coupling, load(model), 0), ONE)
    assert [[i.name for i in r.session.get_inputs()] for r in runners] == [["x"], ["a"], ["b"]]


def test_a_model_out_of_order_is_one_segment() -> None:
    model = conv_chain((8, 8))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))
    assert find_cuts(analyse(model)).after == ()
