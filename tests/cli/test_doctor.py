"""`doctor` in environments that are really so: package folders on PYTHONPATH, processes of their own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import onnxruntime
import pytest

from tests.support.commandline import Command, script


def install(folder: Path, name: str, version: str) -> None:
    """Leave what a package manager leaves of an installed package: its metadata."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_a_sound_environment(command: Command) -> None:
    ran = command("doctor")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("Python 3.")
    assert f"ONNX Runtime {onnxruntime.__version__} is the one that is imported" in ran.out
    assert re.search(r"CPUExecutionProvider +│ yes", ran.out)
    assert "extra [cpu]" in ran.out  # brackets are no markup
    assert "Azure" not in ran.out
    assert ran.out.endswith("no problems found\n")


@pytest.mark.parametrize(
    "runtimes",
    [("onnxruntime", "onnxruntime-gpu"), ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml")],
)
def test_runtimes_that_overwrite_each_other(tmp_path: Path, runtimes: tuple[str, ...]) -> None:
    for name in runtimes:
        install(tmp_path / "modules", name, "1.2.3")
    ran = script("doctor", "--json", folder=tmp_path, PYTHONPATH=str(tmp_path / "modules"))
    assert ran.code == 7
    found = ran.json
    assert found["problems"] == [
        f"{' and '.join(runtimes)} are installed and break each other: uninstall all of them, "
        "then install the one you want"
    ]
    assert {p["name"]: p["version"] for p in found["packages"]}.items() >= dict.fromkeys(runtimes, "1.2.3").items()
    assert found["imported"] == onnxruntime.__version__


def test_a_problem_is_said_and_is_the_exit_code(tmp_path: Path) -> None:
    for name in ("onnxruntime", "onnxruntime-gpu"):
        install(tmp_path / "modules", name, "1.2.3")
    ran = script("doctor", folder=tmp_path, PYTHONPATH=str(tmp_path / "modules"))
    assert (ran.code, ran.err) == (7, "")
    assert "problem: onnxruntime and onnxruntime-gpu are installed" in ran.out
    assert "no problems" not in ran.out


def test_a_provider_that_is_listed_and_does_not_load(tmp_path: Path) -> None:
    """A build that lists CUDA, as GPU builds do on any machine: asking a session tells that it runs on the CPU."""
    place = tmp_path / "onnxruntime_listing" / "onnxruntime"
    place.mkdir(parents=True)
    real = Path(onnxruntime.__file__).parent
    for entry in real.iterdir():
        if entry.name not in ("__init__.py", "__pycache__"):
            (place / entry.name).symlink_to(entry)
    listing = "\n\ndef get_available_providers():\n    return ['CUDAExecutionProvider', 'CPUExecutionProvider']\n"
    (place / "__init__.py").write_text((real / "__init__.py").read_text() + listing)
    ran = script("doctor", "--json", folder=tmp_path, PYTHONPATH=str(place.parent))
    assert ran.code == 0
    providers = json.loads(ran.out)["providers"]
    assert providers["CPUExecutionProvider"] is None
    assert providers["CUDAExecutionProvider"] is not None
