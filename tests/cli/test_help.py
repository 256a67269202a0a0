"""Help: what it says, that it agrees with the code and the pages of docs/, and that it loads nothing heavy."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import onnxprune
from onnxprune.cli.app import COMMANDS
from tests.support.commandline import Command, script

DOCS = [path.read_text() for path in sorted((Path(__file__).parents[2] / "docs").glob("*.md"))]
HEAVY = {"numpy", "onnx", "onnxruntime", "torch", "scipy", "google", "rich", "onnx_graphsurgeon", "polygraphy"}


def options_of(help_text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", help_text))


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_the_commands_are_listed(command: Command, arguments: tuple[str, ...]) -> None:
    ran = command(*arguments)
    assert (ran.code, ran.err) == (0, "")
    assert re.findall(r"^  ([a-z][a-z-]*)  +[A-Z]", ran.out, re.M) == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_listed_with_the_first_line_of_its_own_help(command: Command, name: str) -> None:
    module = name.replace("-", "_")
    function = getattr(import_module(f"onnxprune.cli.{module}"), module)
    assert function.__doc__.splitlines()[0] == COMMANDS[name]
    ran = command(name, "--help")
    assert ran.code == 0
    assert COMMANDS[name] in ran.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_the_common_options(command: Command, name: str) -> None:
    common = {"--json", "--verbose", "--quiet", "--seed", "--provider", "--threads", "--custom-op-library", "--help"}
    assert common <= options_of(command(name, "--help").out)


def test_the_docs_list_every_option(command: Command) -> None:
    listed = options_of("\n".join(line for page in DOCS for line in page.splitlines() if line.startswith("| `-")))
    there = {option for name in COMMANDS for option in options_of(command(name, "--help").out)} - {"--help"}
    assert listed == there


def test_version(command: Command) -> None:
    assert command("--version").out == f"onnxprune {onnxprune.__version__}\n"


def test_help_is_plain_where_no_terminal_is(command: Command) -> None:
    assert "\x1b" not in command("prune", "--help").out


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["prune", "--help"]])
def test_nothing_heavy_is_loaded(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom onnxprune.cli.app import run\n"
        f"code = run({arguments!r})\n"
        "print('loaded', *sorted({m.partition('.')[0] for m in sys.modules}), file=sys.stderr)\n"
        "sys.exit(code)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ran.stderr.split("loaded", 1)[1].split())
    assert "typer" in loaded
    assert not loaded & HEAVY


def test_the_console_script(tmp_path: Path) -> None:
    ran = script("--help", folder=tmp_path)
    assert ran.code == 0
    assert ran.out.startswith("Usage: onnxprune ")
    ran = script("inspect", "none.onnx", folder=tmp_path)
    assert (ran.code, ran.out) == (3, "")
    assert (
        ran.err == "onnxprune: cannot read none.onnx: No such file or directory. Check the path and its permissions.\n"
    )


def test_as_a_module() -> None:
    ran = subprocess.run([sys.executable, "-m", "onnxprune", "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout == f"onnxprune {onnxprune.__version__}\n"
