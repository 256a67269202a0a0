"""What depends on where output goes: terminals, pipes, encodings."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commandline import DIGITS, Command, script


def test_names_that_the_terminal_cannot_show(tmp_path: Path) -> None:
    shutil.copy(DIGITS, tmp_path / "größe.onnx")
    ran = script("inspect", "größe.onnx", folder=tmp_path, PYTHONIOENCODING="ascii")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("gr\\xf6\\xdfe.onnx: 41 nodes")
    assert ran.out.isascii()
    ran = script("inspect", "größer.onnx", folder=tmp_path, PYTHONIOENCODING="ascii")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("onnxprune: cannot read gr\\xf6\\xdfer.onnx")


def test_names_stay_whole_in_pipes(tmp_path: Path) -> None:
    ran = script("inspect", DIGITS, folder=tmp_path)
    assert any("stage3.excite.reduce.weight:0" in line for line in ran.out.splitlines())
    assert "\x1b" not in ran.out


def test_a_reader_that_stops_early(tmp_path: Path) -> None:
    """`onnxprune inspect MODEL | head -1`"""
    process = subprocess.Popen(
        [sys.executable, "-m", "onnxprune", "inspect", str(DIGITS)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_terminal_shows_what_is_going_on(tmp_path: Path) -> None:
    shown = on_a_terminal("prune", DIGITS, "-o", tmp_path / "out.onnx", "--max-macs", "90%")
    for step in ("Analysing", "Scoring", "Removing units", "Writing"):
        assert step in shown
    assert "wrote" in shown
    quiet = on_a_terminal("prune", DIGITS, "-o", tmp_path / "out.onnx", "--max-macs", "90%", "-q")
    assert quiet == ""
    machine = on_a_terminal("inspect", DIGITS, "--json")
    assert machine.startswith("{")
    assert "Analysing" not in machine


def on_a_terminal(*arguments: object) -> str:
    """Both streams of `onnxprune ARGUMENTS` on a pseudo-terminal."""
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "onnxprune", *map(str, arguments)]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while piece := _read(ours):
            shown += piece
        os.close(ours)
        assert process.wait(timeout=60) == 0, shown
    return shown.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # what Linux says where the other end is closed
        return b""


def test_a_quiet_run_silences_nobody_else(command: Command, net: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert command("inspect", net, "-q").code == 0
    logging.getLogger("onnxprune.somewhere").warning("still heard")
    assert caplog.messages == ["still heard"]
