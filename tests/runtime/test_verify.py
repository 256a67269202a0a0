"""The check of a written file: what passes, and what it finds in files that are really wrong."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from onnxprune.errors import ModelError, SettingError, VerificationError
from onnxprune.runtime.ort import RunOptions
from onnxprune.runtime.verify import verify_file
from tests.support.models import make_model
from tests.support.planning import conv_chain

SHAPES = {"x": (1, 3, 8, 8)}
CPU = RunOptions(threads=1)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A dense model and a smaller one."""
    found = {"dense": tmp_path / "dense.onnx", "small": tmp_path / "small.onnx"}
    onnx.save(conv_chain(), found["dense"])
    onnx.save(conv_chain((16, 8)), found["small"])
    return found


def broken() -> ModelProto:
    """A channel that was forgotten in one place."""
    proto = conv_chain((16, 8))
    (tensor,) = [t for t in proto.graph.initializer if t.name == "w1"]
    tensor.raw_data = tensor.raw_data[: 8 * 15 * 4]
    tensor.dims[1] = 15
    return proto


def indexed(rows: int) -> ModelProto:
    """A model that runs only where its input, an index, is below `rows`."""
    nodes = [helper.make_node("Gather", ["table", "at"], ["y"], name="look_up")]
    types = {"at": TensorProto.INT64}
    return make_model(nodes, {"at": (2,)}, ["y"], {"table": (rows, 4)}, input_types=types)


def test_a_good_file(files: dict[str, Path]) -> None:
    assert verify_file(files["small"], files["dense"], SHAPES, {"c0": (1, 16, 8, 8)}, CPU) == {
        "providers": ["CPUExecutionProvider"],
        "ran": True,
        "outputs": {"y": [1, 5, 8, 8]},
        "measured": 1,
    }


def test_a_shape_that_was_not_predicted(files: dict[str, Path]) -> None:
    message = r"'c0' has the shape \[1, 16, 8, 8\], predicted was \[1, 17, 8, 8\]"
    with pytest.raises(VerificationError, match=message):
        verify_file(files["small"], files["dense"], SHAPES, {"c0": (1, 17, 8, 8)}, CPU)


@pytest.mark.parametrize("with_dense", [True, False])
def test_a_file_that_does_not_load(files: dict[str, Path], with_dense: bool) -> None:
    proto = conv_chain((16, 8))
    proto.graph.node[1].op_type = "Swirl"
    onnx.save(proto, files["small"])
    dense = files["dense"] if with_dense else None
    with pytest.raises(VerificationError, match="ONNX Runtime does not load the pruned model"):
        verify_file(files["small"], dense, SHAPES, {}, CPU)


def test_a_file_whose_shapes_do_not_fit(files: dict[str, Path]) -> None:
    onnx.save(broken(), files["small"])
    with pytest.raises(VerificationError, match="the pruned model fails: ONNX Runtime does not run the model"):
        verify_file(files["small"], files["dense"], SHAPES, {}, CPU)


def test_a_file_that_does_not_run_where_the_dense_one_does(tmp_path: Path) -> None:
    """The made-up indices are 0 and 1; both occur with this seed."""
    onnx.save(indexed(2), tmp_path / "dense.onnx")
    onnx.save(indexed(1), tmp_path / "small.onnx")
    options = RunOptions(threads=1, seed=1)
    with pytest.raises(VerificationError, match=r"the pruned model fails: .*does not run"):
        verify_file(tmp_path / "small.onnx", tmp_path / "dense.onnx", {"at": (2,)}, {}, options)


def test_where_the_dense_model_does_not_run_either(tmp_path: Path) -> None:
    onnx.save(indexed(1), tmp_path / "dense.onnx")
    options = RunOptions(threads=1, seed=1)
    found = verify_file(tmp_path / "dense.onnx", tmp_path / "dense.onnx", {"at": (2,)}, {}, options)
    assert (found["ran"], found["outputs"]) == (False, {})
    assert "does not run" in found["why"]


def test_where_the_dense_model_does_not_load_either(files: dict[str, Path]) -> None:
    for path in files.values():
        proto = onnx.load(path)
        proto.graph.node[1].op_type, proto.graph.node[1].domain = "Swirl", "our.company"
        proto.opset_import.add(domain="our.company", version=1)
        onnx.save(proto, path)
    with pytest.raises(ModelError, match=r"pruned or not: .*Swirl.*\. Custom operators need --custom-op-library"):
        verify_file(files["small"], files["dense"], SHAPES, {}, CPU)


def test_a_provider_that_is_not_there(files: dict[str, Path]) -> None:
    with pytest.raises(SettingError, match="--provider coreml"):
        verify_file(files["small"], files["dense"], SHAPES, {}, RunOptions("coreml"))


def test_modules_in_the_users_folder_are_not_taken(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnx.py").write_text("raise SystemExit('not the onnx package')")
    monkeypatch.chdir(tmp_path)
    assert verify_file(files["small"], files["dense"], SHAPES, {}, CPU)["ran"]


def test_a_runtime_that_dies(files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash in ONNX Runtime takes its own process with it, and no other."""
    (tmp_path / "modules" / "onnxruntime").mkdir(parents=True)
    (tmp_path / "modules" / "onnxruntime" / "__init__.py").write_text("import os\nos.abort()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    with pytest.raises(VerificationError, match=r"ONNX Runtime broke down on the pruned model: .*Nothing was written"):
        verify_file(files["small"], files["dense"], SHAPES, {}, CPU)
