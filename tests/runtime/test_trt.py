"""Commands for TensorRT, held against Polygraphy's own argument parsers, and the script against its API."""

from __future__ import annotations

import argparse
from types import SimpleNamespace
from typing import Any

import pytest

from onnxprune.errors import SettingError
from onnxprune.runtime.trt import Engine, polygraphy_commands, python_script, read_shapes, shell_script, trtexec_command
from onnxprune.runtime.trt_build import loaders

SHAPES = {"x": ((1, 3, 8, 8), (4, 3, 8, 8), (8, 3, 8, 8)), "mask": ((1, 5), (4, 5), (8, 5))}
TEN = Engine("a b.onnx", "out.engine", 10, "fp16", True, SHAPES, 4096, "timing.cache")
ELEVEN = Engine("net.onnx", "net.engine")


@pytest.fixture(scope="module")
def parser() -> argparse.ArgumentParser:
    registry = pytest.importorskip("polygraphy.tools.registry")
    found = argparse.ArgumentParser()
    subparsers = found.add_subparsers(required=True)
    for tool in registry.TOOL_REGISTRY:
        tool.setup_parser(subparsers)
    return found


@pytest.mark.parametrize("wanted", [TEN, ELEVEN, Engine("n", "e", 10, "int8"), Engine("n", "e", 10, "bf16", False)])
def test_polygraphy_takes_what_is_emitted(parser: argparse.ArgumentParser, wanted: Engine) -> None:
    for program, *arguments in polygraphy_commands(wanted):
        assert program == "polygraphy"
        _, unknown = parser.parse_known_args(arguments)
        assert unknown == []


def test_polygraphy_reads_them_as_they_are_meant(parser: argparse.ArgumentParser) -> None:
    given = vars(parser.parse_args(polygraphy_commands(TEN)[0][1:]))
    assert (given["sparse_weights"], given["fp16"], given["int8"]) == (True, True, None)
    assert given["trt_max_shapes"] == [["x:[8,3,8,8]", "mask:[8,5]"]]
    assert given["memory_pool_limit"] == ["workspace:4096M"]


def test_trtexec() -> None:
    assert trtexec_command(TEN) == [
        "trtexec", "--onnx=a b.onnx", "--saveEngine=out.engine", "--sparsity=enable", "--fp16",
        "--minShapes=x:1x3x8x8,mask:1x5", "--optShapes=x:4x3x8x8,mask:4x5", "--maxShapes=x:8x3x8x8,mask:8x5",
        "--memPoolSize=workspace:4096M", "--timingCacheFile=timing.cache", "--profilingVerbosity=detailed",
        "--exportLayerInfo=out.engine.layers.json", "--verbose",
    ]  # fmt: skip
    assert trtexec_command(ELEVEN) == [
        "trtexec", "--onnx=net.onnx", "--saveEngine=net.engine", "--sparsity=enable", "--profilingVerbosity=detailed",
        "--exportLayerInfo=net.engine.layers.json", "--verbose",
    ]  # fmt: skip
    assert "'--onnx=a b.onnx'" in shell_script(TEN)


def test_the_script_holds_its_settings() -> None:
    space: dict[str, Any] = {"__name__": "script"}
    exec(compile(python_script(TEN), "script.py", "exec"), space)
    given = space["SETTINGS"]
    assert (given["model"], given["precision"], given["workspace"]) == ("a b.onnx", "fp16", 4096)
    assert given["shapes"]["mask"] == [[1, 5], [4, 5], [8, 5]]


def test_polygraphy_has_the_loaders_and_their_arguments() -> None:
    pytest.importorskip("polygraphy")
    trt = SimpleNamespace(
        MemoryPoolType=SimpleNamespace(WORKSPACE="workspace"), ProfilingVerbosity=SimpleNamespace(DETAILED="detailed")
    )
    given = {**vars(TEN), "shapes": {name: list(shapes) for name, shapes in SHAPES.items()}}
    saving = loaders(given, trt)
    assert type(saving).__name__ == "SaveEngine"


@pytest.mark.parametrize("text", ["x", "x:[a]", "x:[1]:[2]", "x:[0]", ":[1]"])
def test_shapes_that_cannot_be(text: str) -> None:
    with pytest.raises(SettingError, match="not of the form"):
        read_shapes([text])


def test_shapes() -> None:
    assert read_shapes(["x:[1,3]"]) == {"x": ((1, 3), (1, 3), (1, 3))}
    assert read_shapes(["x:[1]:[2]:[3]"]) == {"x": ((1,), (2,), (3,))}


def test_precision_is_a_flag_of_10_alone() -> None:
    with pytest.raises(SettingError, match="takes precision from the graph's types"):
        Engine("n", "e", 11, "fp16")
    with pytest.raises(SettingError, match="unknown"):
        Engine("n", "e", 10, "fp4")
