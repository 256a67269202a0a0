"""Masks: what is zero at every step, and which elements the courses choose."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from onnx import helper

from onnxprune.errors import SettingError
from onnxprune.graph.io import load
from onnxprune.recover import OnnxModule, to_torch, write_back
from onnxprune.recover.lasso import GroupLasso
from onnxprune.recover.masks import best_n_of_m, largest, mask_of, masked, original
from onnxprune.recover.sparse import COURSES, courses_of, inner_axis, read_pattern
from tests.support.learning import classifier, points
from tests.support.models import make_model


def test_the_best_of_each_group_stay() -> None:
    score = torch.tensor([[4.0, 1, 3, 2, 0, 5, 6, 7, 9, 8]])
    assert best_n_of_m(score, 2, 4, 1).int().tolist() == [[1, 0, 1, 0, 0, 0, 1, 1, 1, 1]]  # a rest keeps all
    assert best_n_of_m(score.t(), 1, 4, 0).int().flatten().tolist() == [1, 0, 0, 0, 0, 0, 0, 1, 1, 1]
    assert largest(score, 3).int().tolist() == [[0, 0, 0, 0, 0, 0, 0, 1, 1, 1]]


def test_groups_run_along_the_axis_that_is_summed_over() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "matrix"], ["m"]),
        helper.make_node("Gemm", ["m", "plain"], ["g"]),
        helper.make_node("Gemm", ["g", "turned"], ["y"], transB=1),
    ]
    weights: dict[str, Any] = {"kernel": (8, 4, 3, 3), "matrix": (8, 12), "plain": (12, 16), "turned": (4, 16)}
    module = to_torch(make_model(nodes, {"x": ["N", 4, 6, 6]}, ["y"], weights))
    assert {key: inner_axis(module, key) for key in module.weights} == {
        "kernel": 1, "matrix": -2, "plain": 0, "turned": 1,
    }  # fmt: skip


@pytest.mark.parametrize("course", COURSES)
@pytest.mark.parametrize("zeros", ["2:4", "1:4", "0.75"])
def test_zeros_at_the_end_and_after_write_back(course: str, zeros: str) -> None:
    model = load(classifier(16))
    module = to_torch(model)
    hooks = courses_of(module, zeros, course)
    train(module, hooks, 60)
    assert_sparse(module, zeros)
    stored = to_torch(write_back(module, model))
    assert_sparse(stored, zeros)


def train(module: OnnxModule, hooks: list[Any], steps: int) -> list[int]:
    """SGD on the points; gives how many elements of w1 are not zero after each step."""
    x, labels = (torch.from_numpy(array) for array in points())
    optimiser = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], 0.1, momentum=0.9)
    seen = []
    for step in range(steps):
        loss = torch.nn.functional.cross_entropy(module(x), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        for hook in hooks:
            hook(step + 1, steps, module)
        seen.append(int((module.places["w1"].get() != 0).sum()))
    return seen


def assert_sparse(module: OnnxModule, zeros: str) -> None:
    value = module.places["w1"].get()
    if zeros == "0.75":
        assert int((value != 0).sum()) == 12
        return
    n, m = map(int, zeros.split(":"))
    groups = value.reshape(3, -1, m)
    assert ((groups != 0).sum(-1) <= n).all()
    assert int((value != 0).sum()) == 3 * 16 * n // m


def test_a_mask_holds_at_every_step() -> None:
    module = to_torch(classifier())
    seen = train(module, courses_of(module, "2:4", "oneshot"), 5)
    assert seen == [24] * 5
    assert module.state_dict()["parametrizations.w1.original"].count_nonzero() == 48


def test_gradual_zeros_grow() -> None:
    module = to_torch(classifier())
    seen = train(module, courses_of(module, "0.75", "gradual"), 40)
    assert seen[0] > 24 > seen[20] >= seen[-1] == 12
    assert seen == sorted(seen, reverse=True)


def test_rigl_exchanges_elements_and_keeps_their_number() -> None:
    module = to_torch(classifier())
    hooks = courses_of(module, "0.75", "rigl")
    mask = mask_of(module.places["w1"])
    assert mask is not None
    before = mask.keep.clone()
    assert train(module, hooks, 40)[-1] <= 12
    assert int(mask.keep.sum()) == 12
    assert not torch.equal(mask.keep, before)


def test_rewinding_restores_early_weights_under_the_final_mask() -> None:
    module = to_torch(classifier())
    (rewind,) = courses_of(module, "0.75", "rewind")
    early: dict[str, torch.Tensor] = {}

    def watch(step: int, steps: int, module: OnnxModule) -> None:
        if step == 2:
            early.update({key: original(module.places[key]).detach().clone() for key in module.weights})
        if step == 10:
            for key, value in early.items():
                assert torch.equal(original(module.places[key]), value)

    train(module, [rewind, watch], 20)
    assert early


def test_masks_of_the_same_weight_are_one() -> None:
    module = to_torch(classifier())
    first = masked(module, "w1", torch.ones(3, 16))
    second = masked(module, "w1", torch.zeros(3, 16))
    assert first is second
    assert module.places["w1"].get().count_nonzero() == 0


@pytest.mark.parametrize("text", ["4:2", "0:4", "1.5", "many", "-1"])
def test_unknown_patterns(text: str) -> None:
    with pytest.raises(SettingError, match=f"--zeros {text}: unknown"):
        read_pattern(text)


def test_the_lasso_pushes_what_goes_and_nothing_else() -> None:
    module = to_torch(classifier(4))
    penalty = GroupLasso({"w0": {1: [0, 2]}, "b0": {0: [0, 2]}, "w1": {1: [0, 2]}}, 0.5)
    value = module.places["w0"].get()[:, [1, 3]]
    other = module.places["w1"].get()[:, [1, 3]]
    with torch.no_grad():
        module.places["b0"].get()[1] = -3
    expected = 0.5 * (6**0.5 * value.norm(dim=0).sum() + 3 + 3**0.5 * other.norm(dim=0).sum())
    torch.testing.assert_close(penalty(module), expected, atol=1e-4, rtol=1e-4)
    penalty(module).backward()
    gradient = module.places["w0"].get().grad
    assert gradient is not None
    assert gradient[:, [0, 2]].count_nonzero() == 0
    assert gradient[:, [1, 3]].count_nonzero() == 12
