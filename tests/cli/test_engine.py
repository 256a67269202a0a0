"""`engine` where there is no TensorRT, and `quantize`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.sparsity.networks import residual_net, samples
from tests.support.commandline import Command


@pytest.fixture
def residual(tmp_path: Path) -> Path:
    path = tmp_path / "residual.onnx"
    onnx.save(residual_net(), path)
    return path


SHAPE = ("--shape", "x:[1,3,8,8]:[4,3,8,8]:[8,3,8,8]")


@pytest.mark.skipif(find_spec("tensorrt") is not None, reason="TensorRT is here")
def test_without_tensorrt_it_is_one_line(command: Command, residual: Path) -> None:
    ran = command("engine", residual, "-o", "net.engine", *SHAPE, "-q")
    assert ran.code == 7
    assert "an engine cannot be built here" in ran.err
    assert "--emit-script" in ran.err
    assert ran.err.count("\n") == 1


def test_scripts(command: Command, residual: Path) -> None:
    ran = command("engine", residual, "-o", "net.engine", *SHAPE, "--emit-script", "build.sh")
    assert ran.code == 0, ran.err
    assert "no weight follows 2:4 and is eligible" in ran.err
    assert Path("build.sh").read_text().startswith("#!/bin/sh\n# TensorRT 11.")
    compile(Path("build.py").read_text(), "build.py", "exec")
    command("sparsify", residual, "-o", "sparse.onnx")
    ran = command("engine", "sparse.onnx", "-o", "net.engine", *SHAPE, "--emit-script", "build.sh")
    assert "3 weights follow 2:4, and none is likely to pay: small" in ran.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "has dynamic sizes"),
        (["--shape", "z:[1]"], "no such input"),
        (["--shape", "x:[1,3]"], "has 4 dimensions"),
        ([*SHAPE, "--precision", "fp16"], "takes precision from the graph's types"),
    ],
)
def test_bad_input(command: Command, residual: Path, arguments: list[str], says: str) -> None:
    ran = command("engine", residual, "-o", "net.engine", "--emit-script", "build.sh", *arguments)
    assert ran.code == 2
    assert says in ran.err
    assert not Path("build.sh").exists()


def test_2_4_survives_int8(command: Command, residual: Path, tmp_path: Path) -> None:
    data = samples(tmp_path / "x.npz", 32)
    assert command("sparsify", residual, "-o", "sparse.onnx").code == 0
    ran = command("quantize", "sparse.onnx", "-o", "int8.onnx", "--data", data, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["compliant"] == {"before": 3, "after": 3}
    assert ran.json["quantised"] == 5
    assert command("check-sparsity", "int8.onnx", "--require", 1).code == 0
    types = {t.data_type for t in onnx.load("int8.onnx").graph.initializer}
    assert onnx.TensorProto.INT8 in types
    assert onnx.TensorProto.INT32 not in types  # biases stay real


@pytest.mark.parametrize(("bits", "largest"), [(None, 64), (8, 127)])
def test_a_cpu_has_integers_from_layer_to_layer(
    command: Command, residual: Path, tmp_path: Path, bits: int | None, largest: int
) -> None:
    data = samples(tmp_path / "x.npz", 32)
    given = () if bits is None else ("--weight-bits", bits)
    ran = command("quantize", residual, "-o", "int8.onnx", "--data", data, "--target", "cpu", *given, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["quantised"] == 5
    graph = onnx.load("int8.onnx").graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    kinds = {stored[node.input[2]].data_type for node in graph.node if node.op_type == "QuantizeLinear"}
    assert kinds == {onnx.TensorProto.UINT8}
    assert onnx.TensorProto.INT32 in {tensor.data_type for tensor in stored.values()}  # biases
    weights = [
        onnx.numpy_helper.to_array(t) for t in stored.values() if t.data_type == onnx.TensorProto.INT8 and t.dims
    ]
    assert max(np.abs(weight.astype(int)).max() for weight in weights) == largest
    made = {name: node.op_type for node in graph.node for name in node.output}
    sums = [made[name] for node in graph.node if node.op_type == "Add" for name in node.input]
    assert sums
    assert set(sums) == {"DequantizeLinear"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [([], "give --data"), (["--data", "x.npz", "--target", "gpu"], "--target gpu: unknown. give one of tensorrt, cpu"),
     (["--data", "x.npz", "--weight-bits", 4], "--weight-bits is 4. it is 7 or 8"),
     (["--data", "x.npz", "--ranges", "best"], "--ranges best: unknown"),
     (["--data", "x.npz", "--ignore", "nothing"], "no node matches")],
)  # fmt: skip
def test_bad_input_to_quantize(
    command: Command, residual: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    samples(tmp_path / "x.npz", 8)
    ran = command("quantize", residual, "-o", "int8.onnx", *arguments)
    assert ran.code == 2
    assert says in ran.err
    assert not Path("int8.onnx").exists()
