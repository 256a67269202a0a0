"""Sections of a model fitted together: better than layer by layer, zeros and what has no part in it stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxprune.analyse import analyse
from onnxprune.graph.model import Model
from onnxprune.repair import together
from onnxprune.repair.descent import fit_together
from onnxprune.repair.together import fit_other_weights
from tests.support.models import make_model
from tests.support.oracle import run
from tests.support.repairing import given, missed, normal, repaired, stored

TEST = {"x": normal(32, 3, 8, 8, seed=9)}


def residual(*, late_shortcut: bool = False, pooled: bool = False) -> onnx.ModelProto:
    """Two blocks of 3x3 convolutions around 16 channels, on a stream of 8, whose shortcuts are halved; then a head."""
    nodes = [
        helper.make_node("Conv", ["x", "stem", "sb"], ["s"], name="stem"),
        helper.make_node("Relu", ["s"], ["v0"]),
    ]
    weights: dict[str, Any] = {
        "stem": (8, 3, 1, 1),
        "sb": (8,),
        "head": (4, 8, 1, 1),
        "two": np.full((8, 1, 1), np.float32(0.5)),
    }
    for k in range(2):
        shortcut = helper.make_node("Mul", [f"v{k}", "two"], [f"m{k}"])
        block = [
            helper.make_node("Conv", [f"v{k}", f"up{k}", f"ub{k}"], [f"u{k}"], name=f"up{k}", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"u{k}"], [f"r{k}"]),
            helper.make_node("Conv", [f"r{k}", f"down{k}", f"db{k}"], [f"d{k}"], name=f"down{k}", pads=[1, 1, 1, 1]),
        ]
        nodes += [*block, shortcut] if late_shortcut else [shortcut, *block]
        nodes += [
            helper.make_node("Add", [f"d{k}", f"m{k}"], [f"a{k}"]),
            helper.make_node("Relu", [f"a{k}"], [f"v{k + 1}"]),
        ]
        weights |= {f"up{k}": 0.3 * normal(16, 8, 3, 3, seed=k), f"ub{k}": (16,)}
        weights |= {f"down{k}": 0.2 * normal(8, 16, 3, 3, seed=5 + k), f"db{k}": (8,)}
    if pooled:
        weights |= {"head": (8, 4), "hb": (4,)}
        nodes += [
            helper.make_node("GlobalAveragePool", ["v2"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("Gemm", ["f", "head", "hb"], ["y"], name="head"),
        ]
    else:
        nodes.append(helper.make_node("Conv", ["v2", "head"], ["y"], name="head"))
    return make_model(nodes, {"x": ("n", 3, 8, 8)}, ["y"], weights)


KEPT = {"up0:0": range(10), "up1:0": range(10)}


@pytest.mark.parametrize("late_shortcut", [False, True])
def test_blocks_come_nearer_than_layer_by_layer(late_shortcut: bool) -> None:
    coupling = analyse(residual(late_shortcut=late_shortcut))
    data = given(coupling, x=normal(128, 3, 8, 8))
    _, alone = repaired(coupling, KEPT, data, together=False)
    _, found = repaired(coupling, KEPT, data)
    assert alone.sections == ()
    assert [section.layers for section in found.sections] == [2, 3]
    assert all(section.changed and section.after < 0.9 * section.before for section in found.sections)
    dense = coupling.view.model
    assert missed(found.edited.model, dense, TEST) < 0.8 * missed(alone.edited.model, dense, TEST)


def test_what_is_behind_all_sections_is_fitted_to_what_they_give_in_the_end() -> None:
    """The head's bias makes up for the mean of what is left of the errors, over the samples that are fitted to."""
    coupling = analyse(residual(pooled=True))
    x = normal(128, 3, 8, 8)
    _, found = repaired(coupling, KEPT, given(coupling, x=x))
    assert found.sections[-1].changed
    batches = x.reshape(8, 16, 3, 8, 8)
    fitted = {"x": np.concatenate([batches[:1], batches[2:]]).reshape(-1, 3, 8, 8)}
    (now,), (dense,) = run(found.edited.model, fitted), run(coupling.view.model, fitted)
    assert np.abs(now - dense).mean() > 0.01
    np.testing.assert_allclose((now - dense).mean(axis=0), 0, atol=1e-4)
    (layer,) = [layer for layer in found.layers if layer.layer == "head"]
    assert layer.changed


def test_the_order_in_which_an_exporter_writes_a_shortcut_does_not_matter() -> None:
    models = []
    for late in (False, True):
        coupling = analyse(residual(late_shortcut=late))
        data = given(coupling, x=normal(64, 3, 8, 8))
        models.append(stored(repaired(coupling, KEPT, data)[1].edited.model))
    assert models[0].keys() == models[1].keys()
    for name, array in models[0].items():
        np.testing.assert_allclose(array, models[1][name], atol=1e-4)


def test_the_same_again_is_the_same_bytes() -> None:
    coupling = analyse(residual())
    data = given(coupling, x=normal(64, 3, 8, 8))
    one, other = (repaired(coupling, KEPT, data)[1].edited.model.to_proto() for _ in range(2))
    assert one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)


def test_zeros_stay_and_the_rest_makes_up_for_them() -> None:
    coupling = analyse(residual())
    model = Model(residual())
    masks = {}
    for tensor in model.proto.graph.initializer:
        if tensor.name.startswith(("up", "down")):
            array = onnx.numpy_helper.to_array(tensor)
            masks[tensor.name] = np.abs(array) > np.quantile(np.abs(array), 0.4)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array * masks[tensor.name], tensor.name))
    before = missed(model, coupling.view.model, TEST)
    told: list[tuple[int, int]] = []
    found = fit_other_weights(
        coupling, model, given(coupling, x=normal(128, 3, 8, 8)), set(masks), progress=lambda *now: told.append(now)
    )
    assert [section.title for section in found] == ["up0 to down0", "up1 to head"]
    assert told == [(0, 2), (1, 2), (2, 2)]
    assert missed(model, coupling.view.model, TEST) < 0.6 * before
    now = stored(model)
    for name, mask in masks.items():
        assert np.all(now[name][~mask] == 0)
        assert np.all(now[name][mask] != 0)
    assert np.array_equal(now["stem"], stored(coupling.view.model)["stem"])


def gated() -> onnx.ModelProto:
    """A feed-forward part with a Relu, on a sequence; biases are added behind, the first is shared with the end."""
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"], name="a"),
        helper.make_node("Add", ["h", "ab"], ["hb"]),
        helper.make_node("Relu", ["hb"], ["r"]),
        helper.make_node("MatMul", ["r", "b"], ["g"], name="b"),
        helper.make_node("Add", ["g", "x"], ["y"]),
        helper.make_node("Identity", ["mask"], ["m"]),
    ]
    weights: dict[str, Any] = {"a": (6, 24), "ab": (24,), "b": 0.3 * normal(24, 6, seed=4)}
    inputs = {"x": ("n", "s", 6), "mask": ("n", "s")}
    return make_model(nodes, inputs, ["y", "m"], weights, input_types={"mask": onnx.TensorProto.INT64})


def test_feed_forward_parts_are_fitted_to_real_tokens() -> None:
    coupling = analyse(gated())
    x, mask = normal(96, 7, 6), (np.arange(7) < 5)[None].repeat(96, 0).astype(np.int64)
    kept = {"a:1": range(14)}
    clean = given(coupling, x=x, mask=mask)
    x = x.copy()
    x[:, 5:] = 50 * normal(96, 2, 6, seed=8)
    filled = given(coupling, x=x, mask=mask)
    how = {"mask": "mask", "positions": None}
    models = [stored(repaired(coupling, kept, data, **how)[1].edited.model) for data in (clean, filled)]
    for name, array in models[0].items():
        np.testing.assert_allclose(array, models[1][name], atol=1e-3)
    _, alone = repaired(coupling, kept, clean, together=False, **how)
    _, found = repaired(coupling, kept, clean, **how)
    test = {"x": normal(64, 5, 6, seed=9), "mask": (normal(64, 5) > 0).astype(np.int64)}
    dense = coupling.view.model
    assert [section.layers for section in found.sections] == [2]
    assert missed(found.edited.model, dense, test) < 0.8 * missed(alone.edited.model, dense, test)


def test_weights_that_stand_left_of_their_data() -> None:
    nodes = [
        helper.make_node("MatMul", ["a", "x"], ["h"], name="a"),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["b", "r"], ["y"], name="b"),
    ]
    proto = make_model(nodes, {"x": ("n", 6, 9)}, ["y"], {"a": (24, 6), "b": 0.3 * normal(5, 24, seed=4)})
    coupling = analyse(proto)
    data = given(coupling, x=normal(96, 6, 9))
    _, alone = repaired(coupling, {"a:0": range(14)}, data, together=False)
    _, found = repaired(coupling, {"a:0": range(14)}, data)
    test, dense = {"x": normal(64, 6, 9, seed=9)}, coupling.view.model
    assert missed(found.edited.model, dense, test) < 0.8 * missed(alone.edited.model, dense, test)


def test_a_large_input_is_held_in_few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def counted(problem: Any, weights: Any, free: Any, fitted: Any, held: Any, **how: Any) -> Any:
        seen.append(sum(part.samples for part in (*fitted, *held)))
        return fit_together(problem, weights, free, fitted, held, **how)

    monkeypatch.setattr(together, "fit_together", counted)
    coupling = analyse(residual())
    data = given(coupling, x=normal(128, 3, 8, 8))
    repaired(coupling, KEPT, data)
    # 8 channels of 8 x 8 are read, and as many of the shortcut
    monkeypatch.setattr(together, "_ELEMENTS", 16 * 64 * 20)
    repaired(coupling, KEPT, data)
    monkeypatch.setattr(together, "_ELEMENTS", 1)
    repaired(coupling, KEPT, data)
    assert seen == [128, 128, 20, 20, 8, 8]


def test_steps_follow_from_work_and_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    assert together._steps(10**6, 200) == 640
    assert together._steps(10**6, 1024) == 1280
    assert together._steps(10**9, None) == 10**13 // (10**9 * 24)
    assert together._steps(10**12, 512) == 64


def test_the_samples_that_judge_are_those_that_no_layer_was_fitted_to(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[np.ndarray] = []

    def counted(problem: Any, weights: Any, free: Any, fitted: Any, held: Any, **how: Any) -> Any:
        judged.append(np.concatenate([part.given[0] for part in held], axis=-1))
        return fit_together(problem, weights, free, fitted, held, **how)

    monkeypatch.setattr(together, "fit_together", counted)
    coupling = analyse(residual())
    x = normal(96, 3, 8, 8)
    repaired(coupling, KEPT, given(coupling, x=x))  # in batches of 12: the second one of eight
    dense = coupling.view.model.to_proto()
    dense.graph.output.append(onnx.ValueInfoProto(name="v0"))
    expected = run(Model(dense), {"x": x[12:24]})[1]  # behind the stem, which has lost nothing
    assert judged[0].shape[-1] == 12
    np.testing.assert_allclose(np.moveaxis(judged[0], -1, 0), expected, atol=1e-5)


def test_a_model_whose_batch_is_fixed() -> None:
    proto = residual()
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 16
    coupling = analyse(proto)
    _, found = repaired(coupling, KEPT, given(coupling, x=normal(64, 3, 8, 8)))
    assert all(section.changed for section in found.sections)  # four batches: the second judges
