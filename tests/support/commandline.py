"""The command line as a user has it: arguments in, exit code and two streams out."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIGITS = Path(__file__).parents[2] / "samples" / "01_quickstart" / "digits.onnx"
BYTES = f"{shlex.quote(sys.executable)} -c 'import sys, os; print(os.path.getsize(sys.argv[1]))' {{model}}"
"""For --latency-cmd: a target whose time is the file's size, which no other program can change."""


@dataclass(frozen=True)
class Ran:
    """What a command left: `code`, and what it wrote to standard output and standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON object and nothing else."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


Command = Callable[..., Ran]
"""Runs `onnxprune` with these arguments, in this process."""


def script(*arguments: object, folder: Path, **environment: str) -> Ran:
    """Run the console script in a process of its own, in `folder`."""
    name = "onnxprune.exe" if os.name == "nt" else "onnxprune"
    done = subprocess.run(
        [str(Path(sys.executable).with_name(name)), *map(str, arguments)],
        cwd=folder, env={**os.environ, **environment}, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, done.stderr)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
