"""What the README shows is what one gets: its first command, its figures, its Python."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from onnxprune.cli.app import run

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "samples" / "01_quickstart"
README = (ROOT / "README.md").read_text()
SETTINGS = re.findall(r"^\| `(--[^`]+)` \| ([\d.]+) % \| ([\d.]+) % \| ([\d.]+) % \((\d+)\)", README, re.M)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the samples in it, to run things in."""
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def correct(model: str) -> int:
    data = np.load(SAMPLE / "digits_test.npz")
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return int((session.run(["logits"], {"image": data["image"]})[0].argmax(1) == data["labels"]).sum())


def test_the_first_command(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (command,) = re.findall(r"&& onnxprune (prune .*)\n", README)
    assert run(shlex.split(command)) == 0
    (shown,) = re.findall(r"```text\n(┏.*?)```", README, re.S)
    assert without_bytes(capsys.readouterr().out) == without_bytes(shown)
    assert sorted(path.name for path in checkout.iterdir()) == [
        "digits.pruned.onnx",
        "digits.pruned.prune.json",
        "samples",
    ]


def without_bytes(text: str) -> list[str]:
    """Lines but the one with the files' sizes, which versions of protobuf may change by some bytes."""
    return [line for line in text.splitlines() if "│ bytes" not in line]


def test_the_figures_are_of_the_first_command_too() -> None:
    (command,) = re.findall(r"&& onnxprune prune \S+ -o \S+ (.*)\n", README)
    assert command == SETTINGS[0][0]
    assert len(SETTINGS) == 4


@pytest.mark.parametrize(("options", "macs", "parameters", "accuracy", "right"), SETTINGS)
def test_the_figures(
    checkout: Path,
    capsys: pytest.CaptureFixture[str],
    options: str,
    macs: str,
    parameters: str,
    accuracy: str,
    right: str,
) -> None:
    model = "samples/01_quickstart/digits.onnx"
    assert run(["prune", model, "-o", "a.onnx", *options.split(), "--no-verify"]) == 0
    left = dict(re.findall(r"│ (\w+) +│[^│]+│[^│]+│ +([\d.]+) % │", capsys.readouterr().out))
    assert (left["MACs"], left["parameters"]) == (macs, parameters)
    # Two images of tolerance: another version of ONNX Runtime or another CPU rounds differently, and near ties turn.
    assert abs(correct("a.onnx") - int(right)) <= 2
    assert float(accuracy) == round(100 * int(right) / 360, 2)


def test_the_python(checkout: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "stem.0.weight:0 width 32" in done.stdout
    assert "an output of the model" in done.stdout
    assert run(["prune", "samples/01_quickstart/digits.onnx", "-o", "same.onnx", "--max-macs", "90%", "-q"]) == 0
    assert Path("digits.pruned.prune.json").read_bytes() == Path("same.prune.json").read_bytes()
    assert onnx.load("digits.pruned.onnx") == onnx.load("same.onnx")
