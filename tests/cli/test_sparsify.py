"""`sparsify`, `check-sparsity` and `densify` as a user has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.helper import make_node

from tests.sparsity.networks import residual_net, samples
from tests.support.commandline import Command
from tests.support.models import make_model


@pytest.fixture
def residual(tmp_path: Path) -> Path:
    path = tmp_path / "residual.onnx"
    onnx.save(residual_net(), path)
    return path


def arrays(path: Path) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def test_2_4_by_magnitude(command: Command, residual: Path) -> None:
    ran = command("sparsify", residual, "-o", "out.onnx", "--json")
    assert ran.code == 0, ran.err
    found = ran.json
    assert (found["method"], found["pattern"], found["verified"]["ran"]) == ("magnitude", "2:4", True)
    assert found["zeros"] == {"w1": 0.5, "w2": 0.5, "w3": 0.5}
    assert {item["weight"] for item in found["left"]} == {"w0", "wd"}
    assert command("check-sparsity", "out.onnx", "--require", 1).code == 0
    short = command("check-sparsity", residual, "--require", 1)
    assert short.code == 8
    assert "0.0 % of the eligible weights follow 2:4" in short.err
    table = command("check-sparsity", "out.onnx").out
    assert "grouped" in table
    assert "small (" in table
    assert "3 of 5 weights follow 2:4; 3 are eligible" in table


def test_fitted_to_data_and_permuted(command: Command, residual: Path, tmp_path: Path) -> None:
    data = samples(tmp_path / "x.npz", 40)
    ran = command(
        "sparsify", residual, "-o", "out.onnx", "--data", data, "--permute", "--permute-seconds", 0.5, "--threads", 1,
        "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.json["method"] == "fit"
    assert ran.json["repaired"] is True
    assert {item["name"] for item in ran.json["fitted"]} == {"w1", "wd", "w2", "w3"}
    assert command("check-sparsity", "out.onnx", "--require", 1).code == 0


def test_fitted_together_zeros_stay(command: Command, residual: Path, tmp_path: Path) -> None:
    data = samples(tmp_path / "x.npz", 64)
    asked = ("sparsify", residual, "--data", data, "--pattern", "unstructured", "--sparsity", 0.7, "--threads", 1)
    alone, both = (command(*asked, *more, "--json") for more in (("-o", "a.onnx"), ("-o", "b.onnx", "--together")))
    assert (alone.code, both.code) == (0, 0), both.err
    assert alone.json["fitted_together"] == []
    (section,) = both.json["fitted_together"]
    assert section["changed"] is True
    assert section["after"] < 0.98 * section["before"]
    assert both.json["zeros"] == alone.json["zeros"]
    one, other = arrays(tmp_path / "a.onnx"), arrays(tmp_path / "b.onnx")
    assert all(np.array_equal(one[name] == 0, other[name] == 0) for name in one if one[name].ndim > 1)
    assert not all(np.array_equal(one[name], other[name]) for name in one)
    said = command(*asked, "-o", "c.onnx", "--together", "-q").out + command(*asked, "-o", "d.onnx", "--together").out
    assert "fitted layers together, up to " in said


def test_layers_can_have_their_own(command: Command, residual: Path) -> None:
    ran = command(
        "sparsify", residual, "-o", "out.onnx", "--layer", "w3=dense", "--layer", "w2=1:4", "--ignore", "w1", "--json"
    )
    assert ran.json["zeros"] == {"w2": 0.75}
    assert {item["weight"]: item["why"] for item in ran.json["left"]}["w3"] == "dense by --layer"


def test_stored_sparsely_and_back(command: Command, residual: Path) -> None:
    ran = command(
        "sparsify", residual, "-o", "s.onnx", "--pattern", "unstructured", "--sparsity", 0.9, "--store", "sparse",
        "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert set(ran.json["stored_sparse"]) == {"w0", "w1", "w2", "w3"}
    assert ran.json["bytes"]["after"]["raw"] < ran.json["bytes"]["before"]["raw"]
    assert command("densify", "s.onnx", "-o", "d.onnx").code == 0
    assert command("sparsify", residual, "-o", "e.onnx", "--pattern", "unstructured", "--sparsity", 0.9).code == 0
    dense, same = arrays(Path("d.onnx")), arrays(Path("e.onnx"))
    assert all(np.array_equal(dense[name], same[name]) for name in same)


@pytest.mark.parametrize("allocation", ["global", "erk"])
def test_shares_are_spread(command: Command, residual: Path, allocation: str) -> None:
    ran = command(
        "sparsify", residual, "-o", "out.onnx", "--pattern", "unstructured", "--sparsity", 0.5, "--allocation",
        allocation, "--json",
    )  # fmt: skip
    zeros = ran.json["zeros"]
    assert len({round(share, 2) for share in zeros.values()}) > 1
    sizes = {name: arrays(residual)[name].size for name in zeros}
    assert sum(zeros[n] * sizes[n] for n in zeros) / sum(sizes.values()) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--pattern", "5:4"], 2, "zeroes nothing"),
        (["--pattern", "0:4"], 2, "zeroes everything"),
        (["--pattern", "unstructured", "--sparsity", "1.0"], 2, "leaves no weight"),
        (["--pattern", "unstructured"], 2, "needs a share"),
        (["--sparsity", "0.5"], 2, "its own share"),
        (["--method", "best"], 2, "--method best: unknown"),
        (["--method", "wanda"], 2, "give samples with --data"),
        (["--repair"], 2, "--repair looks at activations"),
        (["--store", "csr"], 2, "give dense or sparse"),
        (["--layer", "nothing=dense"], 2, "no weight or node matches 'nothing'"),
        (["--layer", "w1"], 2, "not of the form GLOB=V"),
        (["--only", "w0"], 2, "has no group of 4"),
        (["--allocation", "even", "--pattern", "unstructured", "--sparsity", "0.5"], 2, "--allocation even: unknown"),
        (["--pattern", "1:4", "--permute"], 2, "only 2:4 is searched for"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    command: Command, residual: Path, arguments: list[str], code: int, says: str
) -> None:
    ran = command("sparsify", residual, "-o", "out.onnx", *arguments)
    assert ran.code == code
    assert says in ran.err
    assert ran.err.count("\n") == 1
    assert not Path("out.onnx").exists()


def test_the_input_is_never_the_output(command: Command, residual: Path) -> None:
    ran = command("sparsify", residual, "-o", residual)
    assert (ran.code, "is the input itself" in ran.err) == (6, True)


def test_weights_computed_at_run_time_are_listed(command: Command, tmp_path: Path) -> None:
    nodes = [make_node("Relu", ["v"], ["w"]), make_node("Conv", ["x", "w"], ["y"])]
    path = tmp_path / "net.onnx"
    onnx.save(make_model(nodes, {"x": [1, 4, 3, 3], "v": [4, 4, 1, 1]}, ["y"], {}), path)
    assert "w: computed while the model runs" in command("check-sparsity", path).out
    ran = command("sparsify", path, "-o", "out.onnx")
    assert ran.code == 2
    assert "computed while the model runs" in ran.err


def test_the_build_log_stands_beside(command: Command, residual: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "[03/23/2021-00:14:05] [I] [TRT] (Sparsity) Layers eligible for sparse math: conv1, conv2, conv3\n"
        "[03/23/2021-00:14:05] [I] [TRT] (Sparsity) TRT inference plan picked sparse implementation for layers: conv2\n"
    )
    ran = command("check-sparsity", residual, "--build-log", log)
    assert "3 layers eligible, 1 picked with sparse kernels" in ran.out
    ran = command("check-sparsity", residual, "--build-log", tmp_path / "none")
    assert ran.code == 2
