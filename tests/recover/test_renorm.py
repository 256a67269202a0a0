"""Normalisation put back for training: the function stays, training moves it, and the file's form comes back."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from onnxprune.graph.io import load
from onnxprune.recover import to_torch, write_back
from onnxprune.recover.masks import mask_of, masked, original
from onnxprune.recover.module import OnnxModule
from onnxprune.recover.renorm import fix_statistics, put_back
from tests.support.learning import convolutional
from tests.support.models import make_model


def images(count: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, 3, 6, 6)).astype(np.float32))


def normalised(model: onnx.ModelProto | None = None, **options: Any) -> tuple[OnnxModule, list[str]]:
    module = to_torch(model or convolutional(), **options)
    return module, put_back(module, [{"x": images()}, {"x": images(seed=1)}])


def step_once(module: OnnxModule, rate: float = 0.1) -> None:
    module.train()
    module(images(seed=2)).square().mean().backward()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter -= rate * parameter.grad
    module.zero_grad()
    module.eval()


def test_the_function_stays_to_the_bit() -> None:
    module, names = normalised()
    assert names == ["wa", "wb"]
    for key, value in to_torch(convolutional()).named_weights().items():
        assert torch.equal(module.places[key].get(), value)
    assert torch.equal(module(images(seed=5)), to_torch(convolutional())(images(seed=5)))
    assert (
        write_back(module, convolutional()).to_proto().SerializeToString()
        == load(convolutional()).to_proto().SerializeToString()
    )


def test_statistics_of_the_same_batches_give_the_same_values_in_training() -> None:
    module = to_torch(convolutional())
    put_back(module, [{"x": images()}])
    before = module(images())
    torch.testing.assert_close(module.train()(images()), before, rtol=1e-4, atol=1e-4)


def test_fixed_statistics_train_what_is_written() -> None:
    module, _ = normalised()
    step_once(module)
    fix_statistics(module)
    before = module(images(seed=4)).detach()
    stays = {name: value.clone() for name, value in module.named_buffers()}
    assert torch.equal(module.train()(images(seed=4)), before)
    assert all(torch.equal(value, stays[name]) for name, value in module.named_buffers())
    step_once(module)
    assert not torch.equal(module(images(seed=4)), before)


def test_kernels_are_trained_at_a_norm_near_one() -> None:
    module, names = normalised()
    for key in names:
        norms = original(module.places[key]).detach().flatten(1).norm(dim=1)
        assert float(norms.min()) > 0.7 - 1e-3
        assert float(norms.max()) < 1.42


def test_after_training_the_written_file_is_the_module() -> None:
    module, _ = normalised()
    for _ in range(3):
        step_once(module)
    written = write_back(module, convolutional())
    x = images(seed=7)
    with torch.no_grad():
        torch.testing.assert_close(to_torch(written)(x), module(x), rtol=1e-5, atol=1e-5)
        assert float((module(x) - to_torch(convolutional())(x)).abs().max()) > 0.01
    names = [[n.op_type for n in m.graph.node] for m in (written.to_proto(), convolutional())]
    assert names[0] == names[1]


def test_training_does_not_depend_on_the_scale_of_a_kernel() -> None:
    """A kernel four times as large is trained as the same one."""
    large = convolutional()
    for tensor in large.graph.initializer:
        if tensor.name == "wa":
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * 4, "wa"))
    for module in (normalised()[0], normalised(large)[0]):
        kernel = original(module.places["wa"])
        assert torch.equal(kernel, original(normalised()[0].places["wa"]))


@pytest.mark.parametrize("first", [True, False])
def test_masks_hold_before_and_after(first: bool) -> None:
    module = to_torch(convolutional())
    keep = torch.arange(27 * 6).reshape(6, 3, 3, 3) % 2 == 0
    if first:
        masked(module, "wa", keep)
    put_back(module, [{"x": images()}])
    if not first:
        masked(module, "wa", keep)
    step_once(module)
    assert mask_of(module.places["wa"]) is not None
    value = module.places["wa"].get()
    assert (value[~keep] == 0).all()
    assert (value[keep] != 0).all()
    with torch.no_grad():
        torch.testing.assert_close(to_torch(write_back(module, convolutional()))(images()), module(images()))


def test_what_gets_none() -> None:
    assert normalised(convolutional(batch_norm=True))[1] == ["wb"]  # it has one
    assert normalised(convolutional(bias=False))[1] == ["wa"]  # a shift would have no place
    assert normalised(freeze=["wa"])[1] == ["wb"]
    assert normalised(freeze=["b*"])[1] == []
    few = to_torch(convolutional())
    assert put_back(few, [{"x": images(7)}]) == []
    assert put_back(few, []) == []
    assert not any("norm" in name for name, _ in few.named_modules())


def test_heads_and_single_places_get_none() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "wa", "ba"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["a"], ["p"]),
        helper.make_node("Conv", ["p", "ws", "bs"], ["s"], name="one place"),
        helper.make_node("Sigmoid", ["s"], ["gate"]),
        helper.make_node("Mul", ["a", "gate"], ["m"]),
        helper.make_node("Conv", ["m", "wh", "bh"], ["h"], name="head"),
        helper.make_node("Relu", ["h"], ["y"]),
    ]
    rng = np.random.default_rng(0)
    shapes = {"wa": (4, 3, 3, 3), "ba": (4,), "ws": (4, 4, 1, 1), "bs": (4,), "wh": (2, 4, 1, 1), "bh": (2,)}
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    assert normalised(make_model(nodes, {"x": ["N", 3, 6, 6]}, ["y"], weights))[1] == ["wa"]


def test_models_that_layers_normalise_get_none() -> None:
    other = convolutional()
    other.graph.node.insert(1, helper.make_node("InstanceNormalization", ["a", "g", "h"], ["n"]))
    other.graph.node[2].input[0] = "n"
    for name in "gh":
        other.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(6, np.float32), name))
    assert normalised(other)[1] == []


def test_a_kernel_of_two_readers_gets_none() -> None:
    tied = convolutional()
    tied.graph.node.append(helper.make_node("Conv", ["x", "wa", "ba"], ["again"], pads=[1, 1, 1, 1]))
    tied.graph.output.append(helper.make_tensor_value_info("again", 1, ["N", 6, 6, 6]))
    assert normalised(tied)[1] == ["wb"]


def test_a_channel_that_gives_nothing() -> None:
    dead = convolutional()
    for tensor in dead.graph.initializer:
        if tensor.name == "wa":
            values = np.array(onnx.numpy_helper.to_array(tensor))
            values[2] = 0
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, "wa"))
    module, names = normalised(dead)
    assert names == ["wa", "wb"]
    assert torch.equal(module(images()), to_torch(dead)(images()))
    step_once(module)
    assert all(torch.isfinite(value).all() for value in module.named_weights().values())
