"""Sessions: options arrive, and what ONNX Runtime refuses is an error of ours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from onnxprune.errors import ModelError, SettingError
from onnxprune.runtime.ort import (
    RunOptions,
    check_provider_name,
    first_line,
    make_session,
    options_from,
    provider_name,
    run,
    why_not,
)
from tests.support.planning import conv_chain

X = np.ones((1, 3, 8, 8), np.float32)

LIBRARY = """
#include <stdio.h>
#include <stdlib.h>
/* Says that it was registered; OrtStatus* NULL is success. */
void* RegisterCustomOps(void* options, const void* api) {
    FILE* file = fopen(getenv("REGISTERED"), "a");
    fputs("registered\\n", file);
    fclose(file);
    return NULL;
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of no custom operators, which leaves a line in the file $REGISTERED when it is registered."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or sys.platform == "win32":
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("library")
    (folder / "ops.c").write_text(LIBRARY)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "ops.so", folder / "ops.c"], check=True)
    return folder / "ops.so"


def test_a_session_of_bytes_and_of_a_file(tmp_path: Path) -> None:
    proto = conv_chain()
    onnx.save(proto, tmp_path / "net.onnx")
    first = run(make_session(proto.SerializeToString()), None, {"x": X})
    second = run(make_session(tmp_path / "net.onnx", RunOptions(threads=1), optimise=False), ["y"], {"x": X})
    np.testing.assert_allclose(first[0], second[0], rtol=1e-4)


def test_external_data_of_serialized_models(tmp_path: Path) -> None:
    onnx.save(conv_chain(), tmp_path / "net.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    content = (tmp_path / "net.onnx").read_bytes()
    expected = run(make_session(conv_chain().SerializeToString()), None, {"x": X})
    np.testing.assert_array_equal(run(make_session(content, folder=tmp_path), None, {"x": X})[0], expected[0])


@pytest.mark.parametrize("name", ["cpu", "CPU", "CPUExecutionProvider"])
def test_provider_names(name: str) -> None:
    check_provider_name(name)
    assert provider_name(name) == "CPUExecutionProvider"


def test_options_reach_the_provider_or_are_refused() -> None:
    """The CPU's provider has none; one that does not load here is asked with its options, and says why it does not."""
    with pytest.raises(
        SettingError, match=r"--provider-option arena: CPUExecutionProvider has no such option\. leave it out"
    ):
        make_session(conv_chain().SerializeToString(), RunOptions(provider_options=(("arena", "1"),)))
    if "TensorrtExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no TensorRT provider")
    options = RunOptions("tensorrt", provider_options=(("trt_sparsity_enable", "1"), ("trt_fp16_enable", "1")))
    if why_not("TensorrtExecutionProvider") is not None:
        with pytest.raises(SettingError, match="--provider tensorrt does not load on this machine"):
            make_session(conv_chain().SerializeToString(), options)
    else:
        session = make_session(conv_chain().SerializeToString(), options)
        assert session.get_provider_options()["TensorrtExecutionProvider"]["trt_sparsity_enable"] == "1"


def test_options_survive_the_way_to_another_process() -> None:
    options = RunOptions(custom_op_libraries=("a.so",), provider_options=(("k", "v"),))
    assert options_from(json.loads(json.dumps(asdict(options)))) == options


def test_a_provider_of_another_machine() -> None:
    check_provider_name("coreml")
    with pytest.raises(SettingError, match=r"--provider coreml: not in this ONNX Runtime\. it has .*CPUExecution"):
        provider_name("coreml")


def test_no_provider_at_all() -> None:
    with pytest.raises(SettingError, match=r"--provider gpu: there is no such provider\. give cpu, cuda"):
        check_provider_name("gpu")


def test_a_model_that_does_not_load() -> None:
    proto = conv_chain()
    proto.graph.node[1].op_type = "Swirl"
    with pytest.raises(ModelError, match=r"ONNX Runtime does not load the model: .*Swirl"):
        make_session(proto.SerializeToString())


def test_inputs_that_do_not_fit() -> None:
    with pytest.raises(ModelError, match=r"ONNX Runtime does not run the model: .*bind its dynamic dimensions"):
        run(make_session(conv_chain().SerializeToString()), None, {"x": X[:, :2]})


def test_a_library_is_registered(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTERED", str(tmp_path / "seen"))
    make_session(conv_chain().SerializeToString(), RunOptions(custom_op_libraries=(str(library),)))
    assert (tmp_path / "seen").read_text() == "registered\n"


def test_a_library_is_registered_where_results_are_verified(library: Path, tmp_path: Path) -> None:
    onnx.save(conv_chain(), tmp_path / "net.onnx")
    subprocess.run(
        [
            sys.executable, "-m", "onnxprune", "prune", "net.onnx", "-o", "out.onnx", "--pruning-ratio", "0.5",
            "--custom-op-library", library,
        ],
        cwd=tmp_path, env={**os.environ, "REGISTERED": str(tmp_path / "seen")}, check=True, capture_output=True,
    )  # fmt: skip
    assert (tmp_path / "seen").read_text() == "registered\n"


def test_first_line() -> None:
    assert first_line(ValueError("\n one \n two")) == "one"
    assert first_line(ValueError()) == "ValueError"
    source = "/onnxruntime_src/onnxruntime/python/state.cc:729 void onnxruntime::Register(Options&, const Map&) "
    assert first_line(RuntimeError(f"{source}Please install TensorRT (10 or 11).")) == (
        "Please install TensorRT (10 or 11)."
    )
