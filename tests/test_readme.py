"""What the README shows is what one gets: its first command, its figures, its Python."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import onnxprune
from onnxprune.cli.app import run
from tests.support.extras import needs

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
    needs("torch", "pydantic", "yaml", "filelock", "jinja2", "plotly")
    (command,) = re.findall(r"&& onnxprune (run .*)\n", README)
    assert run(shlex.split(command)) == 0
    (shown,) = re.findall(r"```text\n(01-prune.*?)```", README, re.S)
    lines = capsys.readouterr().out.replace(f"{checkout}/", "").splitlines()
    assert [shape(line) for line in lines if "interval by" not in line] == [shape(line) for line in shown.splitlines()]
    result = json.loads((checkout / "digits.run" / "result.json").read_text())
    prune, recover, validate = (step["found"] for step in result["steps"])
    assert prune["after"]["macs"] <= 0.35 * prune["before"]["macs"]
    assert len(recover["history"]) > 2
    assert validate["pruned"] >= 0.9889  # three images of tolerance: training rounds differently elsewhere
    assert {"model.onnx", "model.provenance.json", "report.html"} <= {
        p.name for p in (checkout / "digits.run").iterdir()
    }


def shape(line: str) -> str:
    """A line without its figures, which differ from machine to machine, and the blanks that fill columns."""
    return re.sub(r"[━─ ]+", " ", re.sub(r"-?[\d.]+( [MkG])?(?=[ %s()│,])", "N", line))


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


def test_the_page_on_python(checkout: Path) -> None:
    needs("torch", "accelerate")
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.S)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.search(r"^0\.99\d+ 0\.9[789]\d* Difference\(.*\) \(\)$", done.stdout, re.M)
    assert correct("digits.small.onnx") >= 352
    plan = onnxprune.load_plan("digits.small.prune.json")
    assert plan.after is not None
    assert plan.before is not None
    assert plan.after.macs <= 0.7 * plan.before.macs
