"""Re-fitting in graph order: what can be made up for is, and all else stays as it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxprune.analyse import analyse
from onnxprune.coupling.coupling import Coupling
from onnxprune.edit import carry
from onnxprune.errors import ModelError, SettingError
from onnxprune.plan import plan_for
from onnxprune.repair.refit import refit
from onnxprune.runtime.data import open_data
from tests.support.models import make_model
from tests.support.oracle import run
from tests.support.repairing import given, missed, normal, repaired, stored

PADS = [1, 1, 1, 1]


def conv(value: str, weight: str, out: str, *more: str, **attrs: int | Sequence[int]) -> onnx.NodeProto:
    return helper.make_node("Conv", [value, weight, *more], [out], name=weight, **attrs)


def relu(value: str, out: str) -> onnx.NodeProto:
    return helper.make_node("Relu", [value], [out])


def doubled(*shape: int, seed: int = 0) -> np.ndarray:
    """Filters, of which the second half is the first half again: pruned away, the others can stand in for them."""
    half = normal(shape[0] // 2, *shape[1:], seed=seed)
    return np.concatenate([half, half])


def chain(**attrs: Any) -> onnx.ModelProto:
    """x -> 3x3 Conv (4 filters twice) -> Relu -> `w` 3x3 Conv -> Relu -> 1x1 Conv."""
    nodes = [
        conv("x", "enter", "c", "eb", pads=PADS),
        relu("c", "r"),
        conv("r", "w", "d", "b", pads=PADS, **attrs),
        relu("d", "s"),
        conv("s", "leave", "y", "lb"),
    ]
    weights = {
        "enter": doubled(8, 3, 3, 3), "eb": doubled(8, seed=5), "w": (6, 8, 3, 3), "b": (6,), "leave": (5, 6, 1, 1),
        "lb": (5,),
    }  # fmt: skip
    return make_model(nodes, {"x": ("n", 3, 6, 6)}, ["y"], weights)


HALF = {"enter:0": range(4)}


@pytest.fixture(scope="module")
def coupling() -> Coupling:
    return analyse(chain())


def test_channels_that_were_there_twice_cost_nothing(coupling: Coupling) -> None:
    x = normal(64, 3, 6, 6)
    cut, found = repaired(coupling, HALF, given(coupling, x=x))
    test = {"x": normal(16, 3, 6, 6, seed=9)}
    dense = coupling.view.model
    assert missed(cut, dense, test) > 0.05
    assert missed(found.edited.model, dense, test) < 1e-5
    first, second = found.layers
    assert (first.layer, second.layer) == ("w", "leave")
    assert first.changed
    assert first.before > 0.1
    assert first.after < 1e-4
    assert second.before < 1e-4  # it reads what it read before


def test_what_the_inputs_that_are_left_make_up_for_is_no_matter_of_how_many_samples(coupling: Coupling) -> None:
    """8 samples of 36 places, of which a layer that reads 36 numbers sees 9 by 4: the doubles stand in all the same."""
    cut, found = repaired(coupling, HALF, given(coupling, x=normal(8, 3, 6, 6)), positions=9)
    layer = next(layer for layer in found.layers if layer.layer == "w")
    assert layer.changed
    assert layer.before > 0.05
    assert layer.after < 1e-4
    test = {"x": normal(16, 3, 6, 6, seed=9)}
    assert missed(found.edited.model, coupling.view.model, test) < 0.02 * missed(cut, coupling.view.model, test)


def test_only_the_weights_of_layers_change(coupling: Coupling) -> None:
    cut, found = repaired(coupling, HALF, given(coupling, x=normal(64, 3, 6, 6)))
    before, after = cut.to_proto(), found.edited.model.to_proto()
    was, now = stored(cut), stored(found.edited.model)
    assert list(was) == list(now)
    fitted = {layer.layer for layer in found.layers if layer.changed}
    assert {name for name in was if not np.array_equal(was[name], now[name])} == {"w", "b"}
    assert fitted == {"w"}
    for proto in (before, after):
        del proto.graph.initializer[:]
    assert before.SerializeToString(deterministic=True) == after.SerializeToString(deterministic=True)
    assert found.edited.notes == carry(coupling, plan_for(coupling, HALF)).notes


def test_the_same_seed_gives_the_same_bytes_and_the_given_model_is_left_alone(coupling: Coupling) -> None:
    made = plan_for(coupling, HALF)
    edited = carry(coupling, made)
    before = edited.model.to_proto().SerializeToString(deterministic=True)
    data = given(coupling, x=normal(32, 3, 6, 6))
    one, other, third = (
        refit(coupling, made, edited, data, positions=8, seed=seed).edited.model.to_proto().SerializeToString()
        for seed in (1, 1, 2)
    )
    assert one == other != third
    assert edited.model.to_proto().SerializeToString(deterministic=True) == before


def test_where_nothing_went_nothing_changes(coupling: Coupling) -> None:
    cut, found = repaired(coupling, {}, given(coupling, x=normal(32, 3, 6, 6)))
    assert found.layers == ()
    assert found.edited.model.to_proto().SerializeToString() == cut.to_proto().SerializeToString()


def test_progress_is_told(coupling: Coupling) -> None:
    told: list[tuple[int, int]] = []
    repaired(coupling, HALF, given(coupling, x=normal(16, 3, 6, 6)), progress=lambda *now: told.append(now))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]  # two layers, and the section of all three


def test_a_shortcut_is_made_up_for_by_the_layer_that_it_is_added_to() -> None:
    """What the shortcut lost (its own 3x3 mix) is put into the sum by the branch as far as it can see it."""
    nodes = [
        conv("x", "enter", "c"),
        relu("c", "r"),
        conv("r", "side", "q"),
        conv("r", "branch", "d", "bb"),
        helper.make_node("Add", ["d", "q"], ["a"]),
        relu("a", "s"),
        conv("s", "leave", "y"),
    ]
    side = normal(6, 8, 1, 1, seed=2)
    weights = {"enter": doubled(8, 3, 1, 1), "side": side, "branch": (6, 8, 1, 1), "bb": (6,), "leave": (4, 6, 1, 1)}
    model = make_model(nodes, {"x": ("n", 3, 6, 6)}, ["y"], weights)
    model.graph.initializer.append(numpy_helper.from_array(side, "tied"))
    model.graph.node.insert(3, helper.make_node("Conv", ["r", "side"], ["extra"], name="extra"))
    model.graph.output.append(helper.make_tensor_value_info("extra", TensorProto.FLOAT, ["n", 6, 6, 6]))
    coupling = analyse(model)
    cut, found = repaired(coupling, HALF, given(coupling, x=normal(64, 3, 6, 6)))
    now, was = stored(found.edited.model), stored(cut)
    np.testing.assert_array_equal(now["side"], was["side"])  # read by two nodes: left as it is
    test = {"x": normal(16, 3, 6, 6, seed=9)}
    dense = coupling.view.model
    y_cut, y_now, y_dense = (run(m, test)[0] for m in (cut, found.edited.model, dense))
    assert ((y_now - y_dense) ** 2).mean() < 1e-4 * ((y_cut - y_dense) ** 2).mean()


def test_what_is_spread_over_more_places_is_no_shortcut() -> None:
    """A gate of one place that is added to a whole map: the map has more places than the layer gives."""
    nodes = [
        conv("x", "enter", "c"),
        relu("c", "r"),
        conv("r", "map", "m"),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        conv("g", "gate", "h", "gb"),
        helper.make_node("Add", ["h", "m"], ["a"]),
        conv("a", "leave", "y"),
    ]
    weights = {
        "enter": doubled(8, 3, 1, 1),
        "map": (6, 8, 1, 1),
        "gate": (6, 8, 1, 1),
        "gb": (6,),
        "leave": (4, 6, 1, 1),
    }
    coupling = analyse(make_model(nodes, {"x": ("n", 3, 4, 4)}, ["y"], weights))
    _, found = repaired(coupling, HALF, given(coupling, x=normal(128, 3, 4, 4)))
    assert missed(found.edited.model, coupling.view.model, {"x": normal(16, 3, 4, 4, seed=9)}) < 1e-4


@pytest.mark.parametrize("how", ["pool", "mean"])
def test_a_classifier_behind_a_pooling_is_fitted_in_front_of_it(how: str) -> None:
    """Of 24 samples a classifier of 16 inputs sees 24 rows, in front of the pooling 16 times as many."""
    pooling = {
        "pool": [helper.make_node("GlobalAveragePool", ["r"], ["p"]), helper.make_node("Flatten", ["p"], ["f"])],
        "mean": [helper.make_node("ReduceMean", ["r"], ["f"], axes=[2, 3], keepdims=0)],
    }[how]
    nodes = [
        conv("x", "enter", "c"),
        relu("c", "r"),
        *pooling,
        helper.make_node("Gemm", ["f", "w", "b"], ["y"], transB=1),
    ]
    weights = {"enter": doubled(32, 3, 1, 1), "w": (5, 32), "b": (5,)}
    coupling = analyse(make_model(nodes, {"x": ("n", 3, 4, 4)}, ["y"], weights))
    cut, found = repaired(coupling, {"enter:0": range(16)}, given(coupling, x=normal(24, 3, 4, 4)))
    test = {"x": normal(64, 3, 4, 4, seed=9)}
    assert missed(cut, coupling.view.model, test) > 0.1
    assert missed(found.edited.model, coupling.view.model, test) < 1e-3


@pytest.mark.parametrize(("mask", "limit"), [("mask", 1e-3), (None, None)])
def test_tokens_that_only_fill_up_do_not_count(mask: str | None, limit: float | None) -> None:
    """Padding is full of huge numbers: with the mask, what real tokens need is found."""
    nodes = [
        helper.make_node("MatMul", ["x", "up"], ["h"]),
        relu("h", "r"),
        helper.make_node("MatMul", ["r", "down"], ["d"], name="down"),
        helper.make_node("Add", ["d", "b"], ["y"]),
        helper.make_node("Identity", ["mask"], ["m"]),
    ]
    up = normal(4, 12, seed=1)
    weights = {"up": up, "down": (12, 5), "b": (5,)}
    model = make_model(
        nodes, {"x": ("n", "s", 4), "mask": ("n", "s")}, ["y", "m"], weights, input_types={"mask": TensorProto.INT64}
    )
    coupling = analyse(model)
    x = normal(64, 6, 4)
    real = np.ones((64, 6), np.int64)
    real[:, 4:] = 0
    padded = np.where(real[..., None] != 0, x, 100 * np.abs(normal(64, 6, 4, seed=5))).astype(np.float32)
    kept = {"up:1": range(9)}
    cut, found = repaired(coupling, kept, given(coupling, x=padded, mask=real), mask=mask)
    test = {"x": normal(32, 6, 4, seed=8), "mask": np.ones((32, 6), np.int64)}
    y_cut, y_now, y_dense = (run(m, test)[0] for m in (cut, found.edited.model, coupling.view.model))
    gain = float(((y_now - y_dense) ** 2).mean() / ((y_cut - y_dense) ** 2).mean())
    assert gain < 0.7 if mask else gain > 0.7


def test_biases_that_are_shared_stay_and_count() -> None:
    """Both convolutions have the bias `b`: it is no one's own, and not to be fitted a second time into the weights."""
    nodes = [
        conv("x", "enter", "c"),
        relu("c", "r"),
        conv("r", "w", "d", "b"),
        relu("d", "s"),
        conv("s", "v", "y", "b"),
    ]
    bias = np.full(6, 50, np.float32)
    weights = {"enter": doubled(8, 3, 1, 1), "w": (6, 8, 1, 1), "b": bias, "v": (6, 6, 1, 1)}
    coupling = analyse(make_model(nodes, {"x": ("n", 3, 6, 6)}, ["y"], weights))
    data = given(coupling, x=normal(64, 3, 6, 6))
    _, found = repaired(coupling, {**HALF, "w:0": [0, 1, 2, 4, 5]}, data, together=False)
    now, dense = stored(found.edited.model), stored(coupling.view.model)
    assert all((array == 50).all() for array in now.values() if array.ndim == 1)
    assert found.layers[0].before < 10  # of the weights, not of a bias that was forgotten
    np.testing.assert_allclose(now["w"], (dense["w"][:, :4] + dense["w"][:, 4:])[[0, 1, 2, 4, 5]], atol=0.02)
    _, joined = repaired(coupling, {**HALF, "w:0": [0, 1, 2, 4, 5]}, data)
    assert any(section.changed for section in joined.sections)
    assert all((array == 50).all() for array in stored(joined.edited.model).values() if array.ndim == 1)


def test_a_bias_that_is_computed_leaves_the_layer_alone() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "enter"], ["h"]),
        relu("h", "r"),
        helper.make_node("ReduceMean", ["x"], ["cb"], axes=[0, 1], keepdims=1),
        helper.make_node("Gemm", ["r", "w", "cb"], ["y"], name="gemm"),
    ]
    coupling = analyse(make_model(nodes, {"x": ("n", 3)}, ["y"], {"enter": (3, 8), "w": (8, 4)}))
    cut, found = repaired(coupling, {"enter:1": range(5)}, given(coupling, x=normal(64, 3)))
    assert found.layers == ()
    np.testing.assert_array_equal(stored(cut)["w"], stored(found.edited.model)["w"])


@pytest.mark.parametrize("group", [2, 8])
def test_grouped_and_depthwise_convolutions(group: int) -> None:
    """Of eight channels in two blocks, two of each go, which are there twice; or depthwise channels, four of them."""
    quarter = normal(2, 3, 1, 1, seed=1)
    other = normal(2, 3, 1, 1, seed=2)
    enter = np.concatenate([quarter, quarter, other, other])
    nodes = [
        conv("x", "enter", "c"),
        relu("c", "r"),
        conv("r", "w", "d", "b", group=group, pads=PADS),
        relu("d", "s"),
        conv("s", "leave", "y", "lb"),
    ]
    depthwise = np.concatenate([normal(2, 1, 3, 3, seed=3)] * 4)
    weights = {
        "enter": enter, "w": (8, 4, 3, 3) if group == 2 else depthwise,
        "b": (8,) if group == 2 else np.ones(8, np.float32), "leave": (5, 8, 1, 1), "lb": (5,),
    }  # fmt: skip
    coupling = analyse(make_model(nodes, {"x": ("n", 3, 6, 6)}, ["y"], weights))
    wanted = 4 if group == 2 else 8
    (name,) = [g.name for g in coupling.groups if g.size == wanted and g.name.startswith("enter")]
    kept = [0, 1] if group == 2 else [0, 1, 4, 5]
    cut, found = repaired(coupling, {name: kept}, given(coupling, x=normal(96, 3, 6, 6)))
    test = {"x": normal(16, 3, 6, 6, seed=9)}
    assert missed(cut, coupling.view.model, test) > 0.01
    assert missed(found.edited.model, coupling.view.model, test) < 1e-4


def test_half_precision_stays_half() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "up"], ["h"]),
        relu("h", "r"),
        helper.make_node("MatMul", ["r", "down"], ["d"], name="down"),
        helper.make_node("Add", ["d", "b"], ["y"]),
    ]
    up = doubled(8, 4).T.astype(np.float16)
    weights = {"up": up, "down": normal(8, 5).astype(np.float16), "b": normal(5).astype(np.float16)}
    model = make_model(nodes, {"x": ("n", 4)}, ["y"], weights, input_types={"x": TensorProto.FLOAT16})
    coupling = analyse(model)
    x = normal(200, 4).astype(np.float16)
    cut, found = repaired(coupling, {"up:1": range(4)}, given(coupling, x=x))
    assert {str(array.dtype) for array in stored(found.edited.model).values()} == {"float16"}
    test = {"x": normal(64, 4, seed=9).astype(np.float16)}
    assert missed(cut, coupling.view.model, test) > 0.05
    assert missed(found.edited.model, coupling.view.model, test) < 1e-4


def test_weights_in_constants_and_behind_identities() -> None:
    model = chain()
    arrays = {t.name: t for t in model.graph.initializer}
    for name in ("w", "b"):
        model.graph.initializer.remove(arrays[name])
    model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=arrays["w"]))
    model.graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(arrays["b"]), "stored_b"))
    model.graph.node.insert(0, helper.make_node("Identity", ["stored_b"], ["b"]))
    coupling = analyse(model)
    cut, found = repaired(coupling, HALF, given(coupling, x=normal(64, 3, 6, 6)))
    was, now = stored(cut), stored(found.edited.model)
    assert {name for name in was if not np.array_equal(was[name], now[name])} == {"w", "stored_b"}
    assert missed(found.edited.model, coupling.view.model, {"x": normal(16, 3, 6, 6, seed=9)}) < 1e-5


def residual(count: int = 2) -> onnx.ModelProto:
    nodes, value = [conv("x", "stem", "s0", "sb")], "s0"
    weights: dict[str, Any] = {"stem": (8, 3, 1, 1), "sb": (8,), "head": (5, 8, 1, 1), "hb": (5,)}
    for k in range(count):
        nodes += [
            conv(value, f"up{k}", f"u{k}", f"ub{k}"),
            relu(f"u{k}", f"r{k}"),
            conv(f"r{k}", f"down{k}", f"d{k}", f"db{k}"),
            helper.make_node("Add", [value, f"d{k}"], [f"a{k}"], name=f"sum{k}"),
        ]
        weights |= {f"up{k}": (16, 8, 1, 1), f"ub{k}": (16,), f"down{k}": (8, 16, 1, 1), f"db{k}": (8,)}
        value = f"a{k}"
    return make_model([*nodes, conv(value, "head", "y", "hb")], {"x": ("n", 3, 6, 6)}, ["y"], weights)


def test_a_block_that_was_dropped_is_made_up_for_behind_it() -> None:
    coupling = analyse(residual())
    cut, found = repaired(coupling, {}, given(coupling, x=normal(64, 3, 6, 6)), dropped=["sum0"])
    assert [layer.layer for layer in found.layers] == ["up1", "down1", "head"]
    test = {"x": normal(16, 3, 6, 6, seed=9)}
    dense = coupling.view.model
    assert missed(found.edited.model, dense, test) < 0.3 * missed(cut, dense, test)
    down = next(layer for layer in found.layers if layer.layer == "down1")
    assert down.before > 0.05  # its target is the sum, which misses the dropped block


def test_a_residual_stream_that_gets_narrower() -> None:
    coupling = analyse(residual())
    kept = {"stem:0": [0, 1, 3, 4, 6, 7], "up0:0": range(12), "up1:0": range(2, 14)}
    cut, found = repaired(coupling, kept, given(coupling, x=normal(64, 3, 6, 6)))
    test = {"x": normal(16, 3, 6, 6, seed=9)}
    assert missed(found.edited.model, coupling.view.model, test) < 0.3 * missed(cut, coupling.view.model, test)


def test_balanced_plans_keep_other_members_in_each_block() -> None:
    """Of two groups of four channels the first keeps 0 and 1, the second 2 and 3; the doubles stand in for the rest."""
    one, other = normal(2, 3, 1, 1, seed=1), normal(2, 3, 1, 1, seed=2)
    nodes = [
        conv("x", "enter", "c"),
        relu("c", "r"),
        conv("r", "w", "d", "b", group=2),
        relu("d", "s"),
        conv("s", "leave", "y"),
    ]
    weights = {
        "enter": np.concatenate([one, one, other, other]), "w": (6, 4, 1, 1), "b": (6,), "leave": (5, 6, 1, 1),
    }  # fmt: skip
    coupling = analyse(make_model(nodes, {"x": ("n", 3, 6, 6)}, ["y"], weights))
    (group,) = [g for g in coupling.groups if g.size == 4]
    assert group.index in coupling.balance.balanced
    cut, found = repaired(
        coupling, {group.name: [0, 1]}, given(coupling, x=normal(96, 3, 6, 6)), blocks={group.name: [[0, 1], [2, 3]]}
    )
    np.testing.assert_array_equal(stored(cut)["enter"], np.concatenate([one, other]))
    test = {"x": normal(16, 3, 6, 6, seed=9)}
    assert missed(cut, coupling.view.model, test) > 0.01
    assert missed(found.edited.model, coupling.view.model, test) < 1e-4


def test_statistics_of_batch_normalization_move_with_its_input() -> None:
    """With a 3x3 convolution that is tied, nothing else can be done about what its input lost."""
    nodes = [
        conv("x", "enter", "c"),
        relu("c", "r"),
        helper.make_node("Conv", ["r", "w"], ["d"], name="tied"),
        helper.make_node("Conv", ["r", "w"], ["z"], name="tied_too"),
        helper.make_node("BatchNormalization", ["d", "g", "b", "mean", "var"], ["n"], name="norm"),
        conv("n", "leave", "y"),
    ]
    weights = {
        "enter": (8, 3, 1, 1), "w": (6, 8, 1, 1), "g": (6,), "b": (6,), "mean": normal(6, seed=4),
        "var": np.full(6, 4, np.float32), "leave": np.eye(6, dtype=np.float32).reshape(6, 6, 1, 1),
    }  # fmt: skip
    coupling = analyse(make_model(nodes, {"x": ("n", 3, 6, 6)}, ["y", "z"], weights))
    x = normal(64, 3, 6, 6)
    cut, found = repaired(coupling, {"enter:0": range(5)}, given(coupling, x=x))
    (norm,) = [layer for layer in found.layers if layer.is_norm]
    assert (norm.layer, norm.changed) == ("norm", True)
    d_cut, d_dense = (
        run(m, {"x": x})[1].transpose(1, 0, 2, 3).reshape(6, -1).astype(float) for m in (cut, coupling.view.model)
    )
    now, dense = stored(found.edited.model), stored(coupling.view.model)
    shift = d_cut.mean(axis=1) - d_dense.mean(axis=1)
    np.testing.assert_allclose(now["mean"], dense["mean"] + shift, atol=1e-4)
    np.testing.assert_allclose(now["var"], 4 * d_cut.var(axis=1) / d_dense.var(axis=1), rtol=1e-3)
    assert norm.before == pytest.approx((shift**2 / d_dense.var(axis=1)).mean(), rel=1e-3)
    for name in ("g", "b", "w"):
        np.testing.assert_array_equal(now[name], stored(cut)[name])


def test_too_few_samples_are_refused(coupling: Coupling, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"arrays: 7 samples are too few to re-fit weights to. give at least 8"):
        repaired(coupling, HALF, given(coupling, x=normal(7, 3, 6, 6)))
    (tmp_path / "few.py").write_text(
        "import numpy as np\ndef load_data():\n    yield {'x': np.ones((5, 3, 6, 6), np.float32)}\n"
    )
    with pytest.raises(SettingError, match="5 samples are too few to re-fit weights to"):
        repaired(coupling, HALF, open_data(str(tmp_path / "few.py"), coupling.view))


def test_a_single_batch_is_refused(tmp_path: Path) -> None:
    model = chain()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 16
    coupling = analyse(model)
    with pytest.raises(SettingError, match="w cannot be re-fitted: the data make a single batch"):
        repaired(coupling, HALF, given(coupling, x=normal(16, 3, 6, 6)))
    _, found = repaired(coupling, HALF, given(coupling, x=normal(32, 3, 6, 6)))
    assert found.layers[0].changed


def test_a_batch_that_is_too_large_leaves_some_to_hold_back(coupling: Coupling) -> None:
    _, found = repaired(coupling, HALF, given(coupling, x=normal(32, 3, 6, 6)), batch=1000)
    assert found.layers[0].changed


def test_activations_that_are_not_finite_are_named() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "enter"], ["h"]),
        helper.make_node("Exp", ["h"], ["grown"]),
        helper.make_node("MatMul", ["grown", "w"], ["y"]),
    ]
    coupling = analyse(make_model(nodes, {"x": ("n", 3)}, ["y"], {"enter": np.ones((3, 4), np.float32), "w": (4, 2)}))
    with pytest.raises(ModelError, match=r"samples 0 to 1 of arrays make (NaN|infinity) in the tensor"):
        repaired(coupling, {"enter:1": [0, 1]}, given(coupling, x=np.full((16, 3), 100, np.float32)))
