"""tools/bench_sparse24.py up to where a GPU is needed: the layers that it finds, and what it says without one."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from importlib import util
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from tests.support.models import make_model

SCRIPT = Path(__file__).resolve().parent.parent / "tools" / "bench_sparse24.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = util.spec_from_file_location("bench_sparse24", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules["bench_sparse24"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """A 3x3 and two 1x1 convolutions of one shape, one that is grouped, one of 3 channels."""
    nodes = [
        make_node("Conv", ["x", "w0"], ["a"], pads=[1, 1, 1, 1]),
        make_node("Conv", ["a", "w1"], ["b"], pads=[1, 1, 1, 1]),
        make_node("Conv", ["b", "w2"], ["c"]), make_node("Conv", ["c", "w3"], ["d"]),
        make_node("Conv", ["d", "w4"], ["y"], group=32),
    ]  # fmt: skip
    weights = {
        "w0": (32, 3, 3, 3), "w1": (32, 32, 3, 3), "w2": (32, 32, 1, 1), "w3": (32, 32, 1, 1), "w4": (32, 1, 1, 1)
    }  # fmt: skip
    path = tmp_path / "net.onnx"
    onnx.save(make_model(nodes, {"x": [1, 3, 8, 8]}, ["y"], weights), path)
    return path


def test_layers_by_shape_with_a_kernel_s_taps_among_the_inputs(bench: ModuleType, net: Path) -> None:
    assert bench.shapes_of(net) == Counter({bench.Shape(32, 288, 9): 1, bench.Shape(32, 32, 1): 2})


def test_what_the_kernels_do_not_take_is_said_in_the_table(bench: ModuleType) -> None:
    assert bench.why_not(bench.Shape(32, 288, 9), "float16") == ""
    assert bench.why_not(bench.Shape(24, 144, 1), "float16") == "K must be a multiple of 16, C of 32"
    assert bench.why_not(bench.Shape(32, 288, 9), "int8") == "K must be a multiple of 32, C of 64"
    shapes = Counter({bench.Shape(64, 64, 1): 3, bench.Shape(24, 144, 1): 1})
    times = {bench.Shape(64, 64, 1): bench.Timed(0.03, 0.02), bench.Shape(24, 144, 1): "no"}
    table = bench.table_of(shapes, times, "")
    assert [list(column.cells) for column in table.columns] == [
        ["64", "24"], ["64", "144"], ["1", "1"], ["3", "1"], ["0.0300", "no"], ["0.0200", ""], ["1.50", ""]
    ]  # fmt: skip


def test_without_a_gpu_it_says_so_in_one_line(net: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    ran = subprocess.run([sys.executable, str(SCRIPT), str(net)], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (7, "")
    assert "finds no CUDA device. run this on a machine with an NVIDIA GPU" in ran.stderr.replace("\n", " ")
    dense = tmp_path / "dense.onnx"
    onnx.save(make_model([make_node("Relu", ["x"], ["y"])], {"x": [1, 4]}, ["y"], {}), dense)
    ran = subprocess.run([sys.executable, str(SCRIPT), str(dense)], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "has no weight that 2:4 kernels take" in ran.stderr
    assert np.size(ran.stderr.strip().splitlines()) == 1
