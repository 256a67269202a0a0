"""Times that a command of the user's measures: on a board on the desk, a phone, another runtime."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

from onnxprune.errors import SettingError

PLACE = "{model}"
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+")


def check_command(command: str) -> list[str]:
    """The command's words. Raises SettingError where it names no place for the model, or has an open quote."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise SettingError(f"--latency-cmd {command!r}: {error}", remedy="close the quote") from error
    if not any(PLACE in word for word in words):
        raise SettingError(
            f"--latency-cmd {command!r} does not say where the model goes", remedy=f"write {PLACE} in its place"
        )
    return words


def milliseconds(command: str, model: Path) -> float:
    """Run `command` on a model; the last number that it prints to standard output is taken as milliseconds.

    No shell has a part in it. Raises SettingError where the command fails or prints no positive number.
    """
    words = [word.replace(PLACE, str(model)) for word in check_command(command)]
    try:
        done = subprocess.run(words, capture_output=True, encoding="utf-8", errors="replace", check=False)
    except OSError as error:
        raise SettingError(
            f"--latency-cmd: cannot run {words[0]}: {error.strerror}", remedy="check the path"
        ) from error
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "it says nothing").splitlines()[-1]
        raise SettingError(
            f"--latency-cmd: {words[0]} ended with code {done.returncode}: {last}", remedy="run it by hand on a model"
        )
    numbers = _NUMBER.findall(done.stdout)
    if not numbers or not float(numbers[-1]) > 0:
        raise SettingError(
            f"--latency-cmd: {words[0]} printed no milliseconds", remedy="the last number on its output is taken"
        )
    return float(numbers[-1])
