"""Logs of real builds, quoted from where their owners published them."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnxprune.errors import SettingError
from onnxprune.runtime.buildlog import parse_build_log, read_build_log

# github.com/NVIDIA/TensorRT/issues/2169, trtexec of July 2022 (TensorRT 8.4), as its terminal broke the lines
BROKEN = """\
[07/19/2022-11:58:20] [I] [TRT] (Sparsity) Layers eligible for sparse math: Conv_22, MatMul_51, MatMul_69, MatMul_83, MatMul_93, MatMul_107, MatMul_125, Mat
Mul_139, MatMul_149, MatMul_163, MatMul_181, MatMul_195, MatMul_205, MatMul_219, MatMul_237, MatMul_251, MatMul_261, MatMul_275, MatMul_293, MatMul_307, Mat
Mul_317, MatMul_331, MatMul_699, MatMul_709, Gemm_725
[07/19/2022-11:58:20] [I] [TRT] (Sparsity) TRT inference plan picked sparse implementation for layers:
"""  # noqa: E501
# github.com/NVIDIA/TensorRT/issues/1403, the Python builder's logger of TensorRT 8.0
PYTHON = """\
[TensorRT] INFO: (Sparsity) Layers eligible for sparse math: Conv_0
[TensorRT] INFO: (Sparsity) TRT inference plan picked sparse implementation for layers:
"""
# TensorRT's developer guide, "Structured sparsity", of versions 8 to 8.6
GUIDE = """\
[03/23/2021-00:14:05] [I] [TRT] (Sparsity) Layers eligible for sparse math: conv1, conv2, conv3
[03/23/2021-00:14:05] [I] [TRT] (Sparsity) TRT inference plan picked sparse implementation for layers: conv2, conv3
"""
# github.com/NVIDIA/TensorRT/issues/4056, trtexec --sparsity=enable --fp16 --verbose of August 2024, its beginning
FUSED = """\
[08/05/2024-12:06:54] [I] [TRT] (Sparsity) Layers eligible for sparse math: MatMul_401, Conv_619 + Relu_620, Conv_626
"""
# A build for a Jetson as quoted in a public report of its owner, TensorRT 10: counts without names
COUNTED = """\
(Sparsity) Found 39 layer(s) eligible to use sparse tactics
(Sparsity) Chose 0 layer(s) using sparse tactics
"""


def test_lines_that_a_terminal_broke() -> None:
    log = parse_build_log(BROKEN)
    assert log is not None
    assert log.eligible[:2] == ("Conv_22", "MatMul_51")
    assert {"MatMul_139", "MatMul_317", "Gemm_725"} <= set(log.eligible)
    assert (log.eligible_count, log.picked, log.picked_count) == (25, (), 0)


@pytest.mark.parametrize(
    ("text", "eligible", "picked"),
    [(PYTHON, ("Conv_0",), ()), (GUIDE, ("conv1", "conv2", "conv3"), ("conv2", "conv3"))],
)
def test_names(text: str, eligible: tuple[str, ...], picked: tuple[str, ...]) -> None:
    log = parse_build_log(text)
    assert log is not None
    assert (log.eligible, log.picked) == (eligible, picked)


def test_a_node_is_found_where_it_was_fused() -> None:
    log = parse_build_log(FUSED)
    assert log is not None
    assert [log.says(node) for node in ("Conv_619", "Relu_620", "Conv_62")] == ["eligible", "eligible", ""]
    guide = parse_build_log(GUIDE)
    assert guide is not None
    assert [guide.says(node) for node in ("conv1", "conv2")] == ["eligible", "picked"]


def test_counts_without_names_and_the_last_build_counts() -> None:
    log = parse_build_log(GUIDE + COUNTED)
    assert log is not None
    assert (log.eligible_count, log.picked_count, log.eligible) == (39, 0, ())


def test_a_log_that_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "build.log"
    path.write_text("[I] Engine built in 31.1935 sec.\n")
    with pytest.raises(SettingError, match="says nothing of sparsity"):
        read_build_log(path)
    with pytest.raises(SettingError, match="No such file"):
        read_build_log(tmp_path / "none.log")
