"""A run that is stopped while the result is being verified leaves no file, and no process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.support.commandline import contents

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")

# Stands where onnxruntime would be imported, in the process that verifies, and says that it is there.
SLOW = """
import os, pathlib, time
pathlib.Path(os.environ["STARTED"]).write_text(str(os.getpid()))
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, 130, "onnxprune: interrupted. Unfinished files are removed\n"),
        (signal.SIGTERM, 143, ""),
    ],
)
def test_stopped(net: Path, number: int, code: int, said: str) -> None:
    modules = net.parent / "modules"
    (modules / "onnxruntime").mkdir(parents=True)
    (modules / "onnxruntime" / "__init__.py").write_text(SLOW)
    started = modules / "started"
    before = set(contents(net.parent))
    process = subprocess.Popen(
        [sys.executable, "-m", "onnxprune", "prune", "net.onnx", "-o", "out.onnx", "--pruning-ratio", "0.5"],
        cwd=net.parent, env={**os.environ, "PYTHONPATH": str(modules), "STARTED": str(started),
                             "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # a job that a shell runs in the background ignores it, and so would this
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (started.exists() and started.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert set(contents(net.parent)) > before | {"modules/started"}  # temporary files are there
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (code, "", said)
    assert set(contents(net.parent)) == before | {"modules/started"}
    assert is_gone(int(started.read_text()))


def is_gone(process: int) -> bool:
    """Whether a process has ended; nobody need have asked for its exit code."""
    try:
        psutil.Process(process).wait(timeout=10)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return bool(psutil.Process(process).status() == psutil.STATUS_ZOMBIE)
    return True
