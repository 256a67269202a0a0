"""Fixtures of the command line's tests."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from onnxprune.cli.app import run
from tests.support.commandline import Command, Ran
from tests.support.planning import conv_chain


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Run `onnxprune ARGUMENTS` in this process, in a fresh folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Ran:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """Two groups of 32 and 16 channels, `w0:0` and `w1:0`: 688 parameters, 44,032 MACs."""
    path = tmp_path / "net.onnx"
    onnx.save(conv_chain(), path)
    return path
