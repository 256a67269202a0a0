"""A model as a module: names, ties, what is trained, other sizes, half precision, quantised weights, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from onnxprune.errors import ModelError, SettingError
from onnxprune.graph.io import load, save
from onnxprune.recover import to_torch, write_back
from onnxprune.runtime.ort import make_session
from tests.support.models import make_model


def classifier() -> onnx.ModelProto:
    """Conv, BatchNorm, Relu, pooling and a Gemm; dynamic batch; names with dots, slashes and module attributes."""
    nodes = [
        helper.make_node("Conv", ["x", "layer1.0.weight", "training"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "bn.scale", "bn.bias", "bn.mean", "bn.var"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "onnx::MatMul_12"], ["m"]),
        helper.make_node("Add", ["m", "head/bias"], ["y"]),
    ]
    weights: dict[str, Any] = {
        "layer1.0.weight": (4, 3, 3, 3), "training": (4,), "bn.scale": (4,), "bn.bias": (4,), "bn.mean": (4,),
        "bn.var": np.array([1, 2, 3, 4], np.float32), "onnx::MatMul_12": (4, 5), "head/bias": (5,),
    }  # fmt: skip
    return make_model(nodes, {"x": ["N", 3, "H", "W"]}, ["y"], weights)


def image(n: int = 2, size: int = 6) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(n, 3, size, size)).astype(np.float32)


def test_parameters_have_the_names_of_initializers() -> None:
    module = to_torch(classifier())
    assert list(module.weights) == [
        "layer1.0.weight", "training", "bn.scale", "bn.bias", "onnx::MatMul_12", "head/bias",
    ]  # fmt: skip
    keys = {"layer1.0.weight", "training_", "bn.scale", "bn.bias", "bn.mean", "bn.var", "onnx::MatMul_12", "head/bias"}
    assert set(module.state_dict()) == keys
    assert module.places["training"].path == "training_"  # every torch module has an attribute of that name
    again = to_torch(classifier())
    again.load_state_dict({key: value + 1 for key, value in module.state_dict().items()})
    assert torch.equal(again.named_weights()["training"], module.named_weights()["training"] + 1)


@pytest.mark.parametrize(("n", "size"), [(1, 4), (3, 9)])
def test_any_batch_and_size_equals_onnx_runtime(n: int, size: int) -> None:
    model, x = classifier(), image(n, size)
    (expected,) = make_session(model.SerializeToString()).run(None, {"x": x})
    module = to_torch(model)
    with torch.no_grad():
        np.testing.assert_allclose(module(x).numpy(), expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(module(x=torch.from_numpy(x)).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_every_weight_gets_a_gradient_and_a_step_is_written_back() -> None:
    model = classifier()
    module = to_torch(model)
    module(image()).square().sum().backward()
    assert all(place.get().grad is not None for key, place in module.places.items() if key in module.weights)
    with torch.no_grad():
        for weight in module.parameters():
            weight -= 0.1 * weight.grad
        expected = module(image()).numpy()
    trained = write_back(module, model).to_proto()
    (found,) = make_session(trained.SerializeToString()).run(None, {"x": image()})
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert [node.SerializeToString() for node in trained.graph.node] == [
        node.SerializeToString() for node in model.graph.node
    ]
    assert [t.name for t in trained.graph.initializer] == [t.name for t in model.graph.initializer]


def test_without_training_the_bytes_are_the_same(tmp_path: Any) -> None:
    model = classifier()
    for tensor in model.graph.initializer:  # not all writers use raw_data
        if tensor.name == "bn.scale":
            values = numpy_helper.to_array(tensor)
            tensor.ClearField("raw_data")
            tensor.float_data.extend(values.tolist())
    module = to_torch(model)
    module(image())
    assert write_back(module, model).proto.SerializeToString() == model.SerializeToString()
    path, again = tmp_path / "external.onnx", tmp_path / "again" / "external.onnx"
    again.parent.mkdir()
    onnx.save(model, tmp_path / "theirs.onnx", save_as_external_data=True, size_threshold=0, location="theirs.data")
    save(load(tmp_path / "theirs.onnx"), path)
    save(write_back(to_torch(path), path), again)
    for name in ("external.onnx", "external.onnx.data"):
        assert (again.parent / name).read_bytes() == (tmp_path / name).read_bytes()


def test_only_what_changed_is_written() -> None:
    model = classifier()
    module = to_torch(model)
    with torch.no_grad():
        module.places["bn.bias"].get()[1] += 1
    before = {t.name: t.SerializeToString() for t in model.graph.initializer}
    after = {t.name: t.SerializeToString() for t in write_back(module, model).to_proto().graph.initializer}
    assert {name for name in before if before[name] != after[name]} == {"bn.bias"}


def test_a_module_of_another_model_is_refused() -> None:
    other = make_model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": [1, 3]}, ["y"], {"w": (3, 2)})
    with pytest.raises(ModelError, match=r"has no tensor 'w' of shape \[3, 2\]"):
        write_back(to_torch(other), classifier())


def test_tied_weights_are_one_parameter() -> None:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"]),
        helper.make_node("Transpose", ["table"], ["t"]),
        helper.make_node("MatMul", ["e", "t"], ["y"]),
    ]
    model = make_model(nodes, {"ids": ["N"]}, ["y"], {"table": (7, 4)}, input_types={"ids": TensorProto.INT64})
    module = to_torch(model)
    assert [name for name, _ in module.named_parameters()] == ["table"]
    module(np.array([1, 2])).sum().backward()
    gradient = module.places["table"].get().grad
    assert gradient is not None
    assert (gradient.abs().sum(1) > 0).all()  # the rows that were not looked up have theirs from the product


def test_batch_norm_moves_its_statistics_in_training_alone() -> None:
    model = classifier()
    module = to_torch(model)
    before = module.places["bn.mean"].get().clone()
    module.eval()(image())
    assert torch.equal(module.places["bn.mean"].get(), before)
    module.train()(image())
    moved = module.places["bn.mean"].get()
    x = torch.nn.functional.conv2d(
        torch.from_numpy(image()), module.places["layer1.0.weight"].get(), module.places["training"].get(), padding=1
    )
    torch.testing.assert_close(moved, 0.9 * before + 0.1 * x.mean((0, 2, 3)))
    stored = {t.name: numpy_helper.to_array(t) for t in write_back(module, model).to_proto().graph.initializer}
    np.testing.assert_array_equal(stored["bn.mean"], moved.detach().numpy())


def test_shared_statistics_stay() -> None:
    nodes = [
        helper.make_node("BatchNormalization", ["x", "s", "b", "mean", "var"], ["n"]),
        helper.make_node("BatchNormalization", ["n", "s", "b", "mean", "var"], ["y"]),
    ]
    weights: dict[str, Any] = {"s": (3,), "b": (3,), "mean": (3,), "var": np.ones(3, np.float32)}
    module = to_torch(make_model(nodes, {"x": ["N", 3, 4, 4]}, ["y"], weights)).train()
    before = module.places["mean"].get().clone()
    module(image(4, 4))
    assert torch.equal(module.places["mean"].get(), before)


def test_statistics_that_the_graph_computes_are_trained_through() -> None:
    nodes = [
        helper.make_node("Mul", ["m", "m"], ["mean"]),
        helper.make_node("Exp", ["v"], ["var"]),
        helper.make_node("BatchNormalization", ["x", "s", "b", "mean", "var"], ["y"], epsilon=0.01),
    ]
    model = make_model(nodes, {"x": ["N", 3, 4, 4]}, ["y"], {"s": (3,), "b": (3,), "m": (3,), "v": (3,)})
    module = to_torch(model)
    found = module.run({"x": image(2, 4)}, ["y"])["y"]
    (expected,) = make_session(model.SerializeToString()).run(None, {"x": image(2, 4)})
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    found.square().sum().backward()
    assert all(module.places[name].get().grad.abs().min() > 0 for name in ("s", "b", "m", "v"))


def test_lone_numbers_and_tables_of_what_is_forbidden_are_no_weights() -> None:
    nodes = [
        helper.make_node("Pow", ["x", "two"], ["p"]),
        helper.make_node("Mul", ["p", "half"], ["h"]),
        helper.make_node("Add", ["h", "mask"], ["m"]),
        helper.make_node("Softmax", ["m"], ["s"]),
        helper.make_node("MatMul", ["s", "w"], ["z"]),
        helper.make_node("Add", ["z", "bias"], ["y"]),
    ]
    weights: dict[str, Any] = {
        "two": np.array(2, np.float32), "half": np.array([0.5], np.float32), "w": (4, 1), "bias": (1,),
        "mask": np.triu(np.full((4, 4), -np.inf, np.float32), 1),
    }  # fmt: skip
    assert list(to_torch(make_model(nodes, {"x": [4, 4]}, ["y"], weights)).weights) == ["w", "bias"]


def test_half_precision_is_trained_in_float32_and_rounded_on_the_way_back() -> None:
    weights: dict[str, Any] = {"w": np.array([[1.0, 2.0], [3.0, 4.0]], np.float16)}
    model = make_model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": ["N", 2]}, ["y"], weights,
        input_types={"x": TensorProto.FLOAT16},
    )  # fmt: skip
    module = to_torch(model)
    weight = module.places["w"].get()
    assert weight.dtype == torch.float32
    with torch.no_grad():
        weight[0, 0] += 1e-5  # lost to float16
        weight[1, 1] += 0.01
    (stored,) = write_back(module, model).to_proto().graph.initializer
    array = numpy_helper.to_array(stored)
    assert array.dtype == np.float16
    np.testing.assert_array_equal(array, np.array([[1, 2], [3, 4.0117]], np.float16))
    assert to_torch(model, widen=False).places["w"].get().dtype == torch.float16


def quantised() -> onnx.ModelProto:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=1),
        helper.make_node("MatMul", ["xd", "wd"], ["y"]),
    ]
    weights: dict[str, Any] = {
        "xs": np.array(0.1, np.float32), "xz": np.array(3, np.uint8), "ws": np.array([0.5, 0.25], np.float32),
        "wz": np.zeros(2, np.int8), "w": np.array([[1, -2], [127, -128], [0, 5]], np.int8),
    }  # fmt: skip
    return make_model(nodes, {"x": ["N", 3]}, ["y"], weights)


def test_a_quantised_model_is_tuned_through_its_rounding() -> None:
    model = quantised()
    x = np.array([[1.0, -0.2, 0.31], [100.0, 0.0, 0.05]], np.float32)
    (expected,) = make_session(model.SerializeToString()).run(None, {"x": x})
    module = to_torch(model)
    assert list(module.weights) == ["w"]
    given = torch.from_numpy(x).requires_grad_()
    y = module(given)
    np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-6)
    y.sum().backward()
    assert given.grad is not None
    assert given.grad[1, 0] == 0  # beyond the range: clipped, and so is its gradient
    assert given.grad[0, 0] == 0  # 1 * 0.5 - 2 * 0.25
    weight = module.places["w"].get()
    np.testing.assert_allclose(weight.grad.numpy()[2], [0.3, 0.3], rtol=1e-6)  # 0.31 and 0.05 after rounding
    assert write_back(module, model).proto.SerializeToString() == model.SerializeToString()
    with torch.no_grad():
        weight[0, 0] += 0.6  # more than one step of 0.5 away
        weight[1, 1] -= 9  # below the range
    (stored,) = (t for t in write_back(module, model).to_proto().graph.initializer if t.name == "w")
    np.testing.assert_array_equal(numpy_helper.to_array(stored), [[2, -2], [127, -128], [0, 5]])


def test_bodies_run_and_train() -> None:
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["h", "w"], ["next"]),
            helper.make_node("Identity", ["go"], ["again"]),
            helper.make_node("Identity", ["next"], ["seen"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("h", TensorProto.FLOAT, [2, 2]),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [2, 2]),
            helper.make_tensor_value_info("seen", TensorProto.FLOAT, [2, 2]),
        ],
        [numpy_helper.from_array(np.array([[0, 1], [2, 0]], np.float32), "w")],
    )
    model = make_model(
        [helper.make_node("Loop", ["n", "", "x"], ["last", "all"], body=body)], {"x": [2, 2], "n": []}, ["last", "all"],
        {}, input_types={"n": TensorProto.INT64},
    )  # fmt: skip
    module = to_torch(model)
    last, every = module(np.eye(2, dtype=np.float32), np.array(3))
    np.testing.assert_array_equal(last.detach().numpy(), [[0, 2], [4, 0]])
    assert every.shape == (3, 2, 2)
    last.sum().backward()
    assert list(module.weights) == ["w"]
    with torch.no_grad():
        module.places["w"].get()[0, 0] = 7
    loop = write_back(module, model).to_proto().graph.node[0]
    np.testing.assert_array_equal(numpy_helper.to_array(loop.attribute[0].g.initializer[0]), [[7, 1], [2, 0]])


def test_dropout_obeys_train_and_eval() -> None:
    nodes = [helper.make_node("Dropout", ["x"], ["y"])]
    module = to_torch(make_model(nodes, {"x": [1000]}, ["y"], {}))
    x = torch.ones(1000)
    assert torch.equal(module(x), x)
    torch.manual_seed(0)
    kept = module.train()(x)
    assert set(kept.unique().tolist()) == {0.0, 2.0}


def test_nodes_in_any_order() -> None:
    model = classifier()
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    assert torch.equal(to_torch(model)(image()), to_torch(classifier())(image()))


def test_unknown_operators_are_all_named_at_once() -> None:
    nodes = [
        helper.make_node("Fancy", ["x"], ["a"], name="first", domain="acme"),
        helper.make_node("Fancy", ["a"], ["b"], name="second", domain="acme"),
        helper.make_node("StringNormalizer", ["b"], ["y"], name="third"),
    ]
    with pytest.raises(ModelError) as caught:
        to_torch(make_model(nodes, {"x": [2]}, ["y"], {}))
    assert str(caught.value) == (
        "model has what torch has no form for: StringNormalizer (third), acme.Fancy (first and 1 more). "
        "a form can be added through the entry point onnxprune.torch_ops"
    )


def test_inputs_that_are_not_there() -> None:
    module = to_torch(classifier())
    with pytest.raises(SettingError, match="nothing for the input 'x'"):
        module()
    with pytest.raises(SettingError, match="'z' is no input"):
        module(image(), z=1)
    with pytest.raises(ModelError, match=r"torch cannot run Conv <Conv of c>: .*channels"):
        module(np.zeros((1, 2, 4, 4), np.float32))


def test_frozen_weights() -> None:
    module = to_torch(classifier(), freeze=["bn.*"])
    assert [name for name, p in module.named_parameters() if not p.requires_grad] == ["bn.scale", "bn.bias"]
    with pytest.raises(SettingError, match="--freeze none: no weight is called so"):
        to_torch(classifier(), freeze=["none"])


@pytest.mark.slow
def test_it_compiles() -> None:
    module = to_torch(classifier())
    compiled = torch.compile(module, backend="aot_eager")
    torch.testing.assert_close(compiled(torch.from_numpy(image())), module(image()))
