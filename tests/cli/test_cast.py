"""`cast` as a user has it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.support.commandline import Command


@pytest.fixture
def growing(tmp_path: Path) -> Path:
    """y = (x * 1000) * w: a value reaches 100,000 where x reaches 100."""
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y")]
    nodes = [
        helper.make_node("Mul", ["x", "k"], ["h"], name="grow"),
        helper.make_node("Mul", ["h", "w"], ["s"], name="shrink"),
        helper.make_node("Relu", ["s"], ["y"], name="last"),
    ]
    weights = [numpy_helper.from_array(np.asarray(v, np.float32), n) for n, v in (("k", 1000), ("w", 0.001))]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], weights)
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    x = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    np.savez(tmp_path / "small.npz", x=x, labels=np.maximum(x, 0).argmax(axis=1))
    x[0, 0] = 100
    np.savez(tmp_path / "large.npz", x=x)
    return path


def test_small_values_are_converted_and_judged(command: Command, growing: Path) -> None:
    ran = command("cast", growing, "-o", "out.onnx", "--data", "small.npz", "--keep-io", "--json")
    assert ran.code == 0, ran.err
    found = ran.json
    assert (found["nodes"], found["float32"], found["onnxruntime"]["loads"]) == (3, {}, True)
    assert (found["metric"]["name"], found["metric"]["before"], found["metric"]["after"]) == ("top1", 1.0, 1.0)
    assert 0 < found["errors"][0]["relative"] < 2e-3
    assert "top1: 1 before, 1 now, on 20 samples" in command(
        "cast", growing, "-o", "out.onnx", "--data", "small.npz"
    ).out  # fmt: skip


def test_what_overflows_on_the_samples_stays_or_is_refused(command: Command, growing: Path) -> None:
    found = command("cast", growing, "-o", "out.onnx", "--data", "large.npz", "--json").json
    assert found["float32"] == {
        "grow": "h reaches 1e+05, and float16 ends at 65504", "shrink": "h reaches 1e+05, and float16 ends at 65504",
    }  # fmt: skip
    assert [error["broken"] for error in found["errors"]] == [0]
    refused = command("cast", growing, "-o", "no.onnx", "--data", "large.npz", "--overflow", "refuse")
    assert refused.code == 2
    assert "1 values leave the range of float16, such as h, which reaches 1e+05" in refused.err
    assert not Path("no.onnx").exists()
    found = command("cast", growing, "-o", "out.onnx", "--data", "small.npz", "--headroom", 100, "--json").json
    assert set(found["float32"]) == {"grow", "shrink"}
    wide = command("cast", growing, "-o", "out.onnx", "--to", "bf16", "--data", "large.npz", "--json").json
    assert wide["float32"] == {}


def test_without_data_it_says_what_it_does_not_know(command: Command, growing: Path) -> None:
    ran = command("cast", growing, "-o", "out.onnx")
    assert ran.code == 0
    assert "without --data only stored weights are held against the type's range" in ran.err
    assert "On made-up inputs" in ran.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--to", "fp8"), "--to fp8: unknown. give one of fp16, bf16"),
        (("--overflow", "clip"), "--overflow clip: unknown"),
        (("--ignore", "nowhere*"), "--ignore nowhere*: no node matches"),
    ],
)
def test_bad_settings(command: Command, growing: Path, arguments: tuple[str, ...], message: str) -> None:
    ran = command("cast", growing, "-o", "out.onnx", *arguments)
    assert ran.code == 2
    assert message.lower() in ran.err.lower()
    assert not Path("out.onnx").exists()
