"""The package as installed: light to import, extras that do not clash, CI that runs what the README says."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

import onnxprune
from onnxprune import errors

ROOT = Path(__file__).resolve().parent.parent
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_import_loads_nothing_heavy() -> None:
    heavy = python(
        "import sys, onnxprune\n"
        "print(*sorted({m.partition('.')[0] for m in sys.modules} & "
        "{'numpy', 'onnx', 'torch', 'onnxruntime', 'typer', 'rich', 'scipy', 'onnx_graphsurgeon'}))"
    )
    assert heavy.strip() == ""


@pytest.mark.parametrize("name", onnxprune.__all__)
def test_every_public_name_resolves(name: str) -> None:
    value = getattr(onnxprune, name)
    assert getattr(value, "__name__", name) == name


def test_table_and_all_agree() -> None:
    assert sorted([*onnxprune._EXPORTS, "__version__"]) == sorted(onnxprune.__all__)


def test_a_module_does_not_hide_the_function_of_its_name() -> None:
    loaded = onnxprune.load
    onnxprune.load = sys  # what the import system does when `onnxprune/load.py` is imported
    assert onnxprune.load is loaded


def test_unknown_attribute() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = onnxprune.no_such_name


def test_versions_agree() -> None:
    assert PROJECT["version"] == onnxprune.__version__


def test_exit_codes_are_distinct_and_documented() -> None:
    codes = [kind.exit_code for kind in KINDS]
    assert len(set(codes)) == len(codes)
    documented = {int(code) for code in re.findall(r"^\| (\d) \|", (ROOT / "README.md").read_text(), re.M)}
    assert documented == {0, *codes}


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_one_line_and_survives_pickling(kind: type[errors.OnnxPruneError]) -> None:
    error = kind("a.onnx: is\nempty", remedy="Export it again.")
    assert str(error) == "a.onnx: is empty. Export it again."
    assert str(kind("plain")) == "plain"
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.message, copy.remedy) == (kind, error.message, error.remedy)


@pytest.mark.parametrize(
    ("system", "machine", "runtime"),
    [
        ("linux", "x86_64", "onnxruntime-gpu"),
        ("win32", "AMD64", "onnxruntime-gpu"),
        ("linux", "aarch64", "onnxruntime"),
        ("win32", "ARM64", "onnxruntime"),
        ("darwin", "arm64", "onnxruntime"),
        ("darwin", "x86_64", "onnxruntime"),
    ],
)
def test_all_brings_exactly_one_onnxruntime(system: str, machine: str, runtime: str) -> None:
    extras = PROJECT["optional-dependencies"]
    where = {**default_environment(), "sys_platform": system, "platform_machine": machine}

    def resolve(extra: str) -> set[str]:
        found: set[str] = set()
        for requirement in map(Requirement, extras[extra]):
            if requirement.marker is None or requirement.marker.evaluate(where):
                found.add(requirement.name)
                found |= {name for nested in requirement.extras for name in resolve(nested)}
        return found

    assert {name for name in resolve("all") if name.startswith("onnxruntime")} == {runtime}
    assert {"torch", "onnx-graphsurgeon"} <= resolve("all")
    assert not any(name.startswith("onnxruntime") for name in resolve("dev"))


def test_ci_runs_what_the_readme_says() -> None:
    commands = re.findall(r"```sh\n(.*?)\n```", (ROOT / "README.md").read_text(), re.S)
    install, test = commands[1].split(" && ")[2:]
    ci = (ROOT / ".ci" / "run").read_text().splitlines()
    assert install.replace("pip install", "pip install -q") in ci
    assert test in ci
