"""Einsum: what its letters tie, what is summed over, and equations that are not understood."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.coupling.atoms import Decline
from onnxprune.ops.einsum import Equation, parse
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly


@pytest.mark.parametrize(
    ("equation", "ranks", "inputs", "output"),
    [
        ("bij,bjk->bik", [3, 3], ("bij", "bjk"), "bik"),
        ("ij , jk", [2, 2], ("ij", "jk"), "ik"),
        ("ba", [2], ("ba",), "ab"),
        ("ij->", [2], ("ij",), ""),
        ("ii", [2], ("ii",), ""),
        ("...ij,...jk->...ik", [3, 4], ((-1, "i", "j"), (-2, -1, "j", "k")), (-2, -1, "i", "k")),
        ("...ij,jk", [4, 2], ((-2, -1, "i", "j"), "jk"), (-2, -1, "i", "k")),
        ("a...b->b...a", [4], (("a", -2, -1, "b"),), ("b", -2, -1, "a")),
        ("i...,i...->...", [2, 2], (("i", -1), ("i", -1)), (-1,)),
        ("aB,Bc->ac", [2, 2], ("aB", "Bc"), "ac"),
    ],
)
def test_equations(equation: str, ranks: list[int], inputs: tuple, output: tuple | str) -> None:
    assert parse(equation, ranks) == Equation(tuple(tuple(i) for i in inputs), tuple(output))


@pytest.mark.parametrize(
    ("equation", "ranks"),
    [
        ("ij,jk->ik", [2]),  # one operand too few
        ("ij->ik", [2]),  # a letter from nowhere
        ("ij->ii", [2]),  # a letter twice in the output
        ("ijk->i", [2]),  # another rank
        ("i1->i", [2]),
        ("i..j->ij", [2]),
        ("...i->i", [3]),  # numpy refuses to drop an ellipsis
        ("", [2]),
    ],
)
def test_equations_that_are_not_understood(equation: str, ranks: list[int]) -> None:
    with pytest.raises(Decline):
        parse(equation, ranks)


def test_an_equation_that_is_not_understood_freezes() -> None:
    nodes = [make_node("MatMul", ["x", "w"], ["h"]), make_node("Einsum", ["h"], ["y"], equation="bii->i")]
    model = make_model(nodes, {"x": [1, 4, 3]}, ["y"], {"w": [3, 4]})
    coupling = analyse(model)
    assert coupling.groups == ()
    assert {r.why for r in coupling.refusals if r.tensor == "w" and r.axis == 1} == {"'i' takes a diagonal [h:1]"}


def projected(equation: str, x: list[int], w: list[int], out: list[int]) -> onnx.ModelProto:
    """x -> MatMul -> Einsum with a stored w -> MatMul."""
    nodes = [
        make_node("MatMul", ["x", "enter"], ["h"]),
        make_node("Einsum", ["h", "w"], ["y"], equation=equation),
        make_node("MatMul", ["y", "leave"], ["out"]),
    ]
    return make_model(nodes, {"x": x}, ["out"], {"enter": [x[-1], w[0]], "w": w, "leave": out})


def test_a_letter_is_one_axis_of_all_that_have_it() -> None:
    model = projected("btw,wk->btk", [2, 3, 5], [4, 6], [6, 2])
    assert units(analyse(model)) == {
        "enter:1": [{"enter:1": [i], "w:0": [i]} for i in range(4)],
        "w:1": [{"w:1": [i], "leave:0": [i]} for i in range(6)],
    }
    coupling = assert_prunes_exactly(model)
    assert coupling.cost().macs == 2 * 3 * (5 * 4 + 4 * 6 + 6 * 2)


@pytest.mark.parametrize(
    ("equation", "w", "out"),
    [
        ("...w,wk", [4, 6], [6, 2]),
        ("btw,wk->btk", [4, 6], [6, 2]),
        ("btw,wkj->btkj", [4, 6, 3], [3, 2]),
        ("btw,wkj->btk", [4, 6, 3], [6, 2]),  # j is summed over in w alone
        ("btw,wk->bkt", [4, 6], [3, 2]),
        ("btw,wk->btw", [4, 6], [4, 2]),  # w is carried, k is summed over
    ],
)
def test_stored_operands(equation: str, w: list[int], out: list[int]) -> None:
    coupling = assert_prunes_exactly(projected(equation, [2, 3, 5], w, out), seeds=range(2))
    assert all(g.exact for g in coupling.groups)


def test_heads_stay_their_own_axis() -> None:
    """Attention in einsums alone, queries grouped; what is summed over in the scores is inside a head."""
    equations = {
        "q": ("btw,wgnd->bgntd", "x", "wq"), "k": ("btw,wgd->bgtd", "x", "wk"), "v": ("btw,wge->bgte", "x", "wv"),
        "scores": ("bgntd,bgud->bgntu", "q", "k"), "mixed": ("bgntu,bgue->bgnte", "scores", "v"),
        "out": ("bgnte,gnew->btw", "mixed", "wo"),
    }  # fmt: skip
    nodes = [make_node("Einsum", inputs, [name], equation=eq) for name, (eq, *inputs) in equations.items()]
    weights = {"wq": [6, 2, 3, 4], "wk": [6, 2, 4], "wv": [6, 2, 5], "wo": [2, 3, 5, 6]}
    model = make_model(nodes, {"x": [1, 3, 6]}, ["out"], weights)
    coupling = assert_prunes_exactly(model)
    assert units(coupling) == {
        "wq:1": [{"wq:1": [i], "wk:1": [i], "wv:1": [i], "wo:0": [i]} for i in range(2)],
        "wq:2": [{"wq:2": [i], "wo:1": [i]} for i in range(3)],
        "wq:3": [{"wq:3": [i], "wk:2": [i]} for i in range(4)],
        "wv:2": [{"wv:2": [i], "wo:2": [i]} for i in range(5)],
    }
    assert {g.name: g.kind for g in coupling.groups} == {
        "wq:1": "heads", "wq:2": "heads", "wq:3": "head_dims", "wv:2": "head_dims",
    }  # fmt: skip


def test_a_mix_by_weights_is_no_attention() -> None:
    """bte,btew->btw: experts mixed softly; the width is not called a head dim."""
    nodes = [
        make_node("MatMul", ["x", "gate"], ["g"]),
        make_node("Einsum", ["x", "enter"], ["each"], equation="btw,wek->btek"),
        make_node("Einsum", ["g", "each"], ["mixed"], equation="bte,btek->btk"),
        make_node("MatMul", ["mixed", "leave"], ["out"]),
    ]
    weights = {"gate": [4, 3], "enter": [4, 3, 5], "leave": [5, 2]}
    coupling = assert_prunes_exactly(make_model(nodes, {"x": [2, 3, 4]}, ["out"], weights))
    assert {g.name: g.kind for g in coupling.groups} == {"gate:1": "ffn", "enter:2": "ffn"}


def test_broadcast_axes_of_length_one_are_not_tied() -> None:
    nodes = [
        make_node("Einsum", ["x", "w"], ["y"], equation="...i,...ij->...j"),
        make_node("MatMul", ["y", "leave"], ["out"]),
    ]
    model = make_model(nodes, {"x": [3, 2, 4]}, ["out"], {"w": [1, 1, 4, 6], "leave": [6, 2]})
    assert units(assert_prunes_exactly(model)) == {"w:3": [{"w:3": [i], "leave:0": [i]} for i in range(6)]}


def test_three_operands() -> None:
    nodes = [
        make_node("MatMul", ["x", "enter"], ["h"]),
        make_node("Einsum", ["h", "u", "v"], ["y"], equation="bi,ir,rj->bj"),
        make_node("MatMul", ["y", "leave"], ["out"]),
    ]
    weights = {"enter": [3, 4], "u": [4, 5], "v": [5, 6], "leave": [6, 2]}
    coupling = assert_prunes_exactly(make_model(nodes, {"x": [2, 3]}, ["out"], weights))
    assert [g.size for g in coupling.groups] == [4, 6, 5]
    assert coupling.cost().macs == 2 * 3 * 4 + 2 * 4 * 5 * 6 + 2 * 6 * 2


def test_the_ellipsis_counts_axes_from_its_end() -> None:
    """(-1,) of a rank-1 ellipsis is the last of two: numpy's broadcasting."""
    labels = parse("...i,...i->...i", [2, 3]).inputs
    assert labels == ((-1, "i"), (-2, -1, "i"))
    assert np.einsum("...i,...i->...i", np.ones((3, 2)), np.ones((4, 3, 2))).shape == (4, 3, 2)
