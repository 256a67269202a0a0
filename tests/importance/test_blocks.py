"""What each block's members matter, and that balanced choice keeps at least as much of it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxprune.analyse import analyse
from onnxprune.edit import apply
from onnxprune.importance import score
from onnxprune.importance.blocks import parts
from onnxprune.importance.magnitude import totals
from onnxprune.plan import plan
from onnxprune.types import Budget
from tests.blocks.test_balanced_convolutions import grouped
from tests.blocks.test_balanced_heads import per_head_product
from tests.blocks.test_balanced_recurrent import both_ways
from tests.blocks.test_rotary_attention import cross, fused
from tests.support.planning import two_factors

MODELS = [
    pytest.param(cross(13), id="heads"),
    pytest.param(fused(), id="grouped queries"),
    pytest.param(grouped(), id="groups of a convolution"),
    pytest.param(per_head_product(), id="a matrix per head"),
    pytest.param(both_ways("GRU"), id="directions"),
]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("power", [1, 2])
def test_parts_add_up_to_units(model: onnx.ModelProto, power: int) -> None:
    coupling = analyse(model)
    found = parts(coupling, power)
    assert found.keys() == coupling.balance.balanced.keys() != set()
    for index, matrix in found.items():
        np.testing.assert_allclose(matrix.sum(0), totals(coupling, "sum", power)[index], rtol=1e-6)


def test_squares_of_two_heads_to_the_number() -> None:
    """w's columns and per_head's rows, of head 0 and of head 1."""
    model = two_factors()
    dense = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    coupling = analyse(model)
    (index,) = coupling.balance.balanced
    expected = (dense["w"] ** 2).sum(0).reshape(2, 4) + (dense["per_head"] ** 2).sum(2)
    np.testing.assert_allclose(parts(coupling, 2)[index], expected, rtol=1e-6)


def kept_squares(model: onnx.ModelProto, *, balanced: bool, ratio: float) -> float:
    """The squares of all weights of the floats that stay, once a plan at `ratio` is carried out."""
    coupling = analyse(model)
    (index,) = coupling.balance.balanced
    scores = score(coupling, balanced=balanced)
    made = plan(coupling, scores, Budget(ratios={coupling.groups[index].name: ratio}), round_to=None)
    assert made.settings["balanced"] is balanced
    assert any(group.blocks for group in made.groups) is balanced
    pruned = apply(model, made, coupling).to_proto(external=True)
    arrays = [numpy_helper.to_array(t) for t in pruned.graph.initializer]
    return sum(float((a.astype(np.float64) ** 2).sum()) for a in arrays if a.dtype.kind == "f")


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_each_head_keeps_its_best_dims(ratio: float) -> None:
    """What is kept is the sum over heads of the best dims of each: never less, and more from half on."""
    model = two_factors()
    coupling = analyse(model)
    (index,) = coupling.balance.balanced
    squares = parts(coupling, 2)[index]
    keep = round(4 * (1 - ratio))
    alike = np.sort(squares.sum(0))[-keep:].sum()
    each = np.sort(squares, axis=1)[:, -keep:].sum()
    assert kept_squares(model, balanced=False, ratio=ratio) == pytest.approx(alike, rel=1e-6)
    assert kept_squares(model, balanced=True, ratio=ratio) == pytest.approx(each, rel=1e-6)
    assert (each > alike) == (ratio >= 0.5)


@pytest.mark.parametrize("model", MODELS)
def test_balanced_keeps_no_less(model: onnx.ModelProto) -> None:
    """Unit by unit from the most important on: the best members of all blocks sum to no less than any unit's own."""
    coupling = analyse(model)
    units, own = score(coupling, normalise="none", balanced=True), score(coupling, normalise="none")
    more = False
    for group in coupling.groups:
        best, alike = (np.cumsum(np.sort(s[group.index] ** 2)[::-1]) for s in (units, own))
        assert (best >= alike * (1 - 1e-6)).all()
        if group.index in coupling.balance.balanced:
            more = more or (best > alike * (1 + 1e-6)).any()
            assert best[-1] == pytest.approx(alike[-1], rel=1e-6)
        else:
            assert (best == alike).all()
    assert more


def test_chosen_at_random_blocks_differ() -> None:
    coupling = analyse(cross(13))
    scores = score(coupling, "random", seed=3)
    assert all((choice != choice[0]).any() for choice in scores.choices.values())
    again = score(coupling, "random", seed=3)
    assert all((again.choices[i] == choice).all() for i, choice in scores.choices.items())
