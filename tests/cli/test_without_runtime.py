"""Without ONNX Runtime: what does not need it works, and what does says which extra to install.

Real processes, of a virtual environment in which all is linked that is installed here but ONNX Runtime, or in which
one comes first that cannot be imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.commandline import DIGITS, Ran, contents

ROOT = Path(__file__).parents[2]
BROKEN = 'raise ImportError("libcudart.so.12: cannot open shared object file")\n'


@dataclass(frozen=True)
class Python:
    """An environment: its interpreter, a folder on its path, and what is wrong with it."""

    executable: Path
    path: str
    problem: str

    def run(self, folder: Path, *arguments: object) -> Ran:
        """`python -m onnxprune ARGUMENTS` in `folder`."""
        done = subprocess.run(
            [self.executable, "-m", "onnxprune", *map(str, arguments)],
            cwd=folder, env={**os.environ, "PYTHONPATH": self.path}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture(params=["not installed", "broken"])
def python(request: pytest.FixtureRequest, tmp_path: Path) -> Python:
    """Everything that is installed here but ONNX Runtime, or with one that cannot be imported."""
    if request.param == "broken":
        package = tmp_path / "modules" / "onnxruntime"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(BROKEN)
        return Python(
            Path(sys.executable), str(package.parent), "is installed, but cannot be imported (libcudart.so.12"
        )
    place = tmp_path / "venv"
    venv.create(place, symlinks=os.name != "nt")
    names = {"base": str(place), "platbase": str(place)}
    packages = Path(sysconfig.get_path("purelib", vars=names))
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith("onnxruntime"):
            (packages / entry.name).symlink_to(entry)
    executable = Path(sysconfig.get_path("scripts", vars=names)) / Path(sys.executable).name
    return Python(executable, str(ROOT), "is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def test_it_is_really_gone(python: Python, folder: Path) -> None:
    ran = python.run(folder, "doctor", "--json")
    assert ran.code == 7
    found = json.loads(ran.out)
    assert (found["imported"], found["providers"]) == (None, {})
    assert len(found["problems"]) == 1
    assert python.problem.split(",")[0] in found["problems"][0]


def test_inspect_plan_and_apply_work(python: Python, folder: Path) -> None:
    assert python.run(folder, "inspect", DIGITS).code == 0
    ran = python.run(folder, "plan", DIGITS, "-o", "a.prune.json", "--pruning-ratio", "0.5")
    assert (ran.code, ran.err) == (0, "")
    ran = python.run(folder, "apply", DIGITS, "a.prune.json", "-o", "a.onnx", "--no-verify")
    assert (ran.code, ran.err) == (0, "")
    assert python.run(folder, "prune", DIGITS, "-o", "b.onnx", "--pruning-ratio", "0.5", "--no-verify").code == 0
    files = contents(folder)
    assert sorted(files) == ["a.onnx", "a.prune.json", "b.onnx", "b.prune.json"]
    assert files["a.onnx"] == files["b.onnx"]


def test_what_verifies_says_what_to_install(python: Python, folder: Path) -> None:
    ran = python.run(folder, "prune", DIGITS, "-o", "a.onnx", "--pruning-ratio", "0.5")
    assert ran.code == 7
    assert ran.err.startswith(f"onnxprune: ONNX Runtime {python.problem}")
    assert "pip install onnxprune[cpu]" in ran.err
    assert "onnxprune[gpu]" in ran.err
    assert "--no-verify" in ran.err
    assert ran.err.count("\n") == 1
    assert contents(folder) == {}
