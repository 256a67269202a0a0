"""A command within a command: a recipe's step, run in this process, its log in a file."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from onnxprune import errors
from onnxprune.errors import BudgetError, FloorError, OnnxPruneError
from onnxprune.loop.runner import Answer

_ANSWERS = (0, FloorError.exit_code, BudgetError.exit_code)


def invoke(arguments: Sequence[str], log: Path) -> Answer:
    """Run `onnxprune ARGUMENTS`, which must include --json; what it says on standard error goes to `log`.

    Gives its exit code and answer where it did its work (0), broke a limit (9) or could not meet its budget (4).
    Raises the command's own error for anything else, KeyboardInterrupt where it was interrupted.
    """
    from onnxprune.cli.app import INTERRUPTED, run

    out, logger = io.StringIO(), logging.getLogger("onnxprune")
    speakers: list[logging.Logger | logging.Handler] = [logger, *logger.handlers]
    loud = [(speaker, speaker.level) for speaker in speakers]
    with open(log, "w", encoding="utf-8") as file:
        file.write("$ onnxprune " + " ".join(arguments) + "\n")
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(_Flushed(file)):
            code = run([*arguments, "-v"])
    for speaker, level in loud:
        speaker.setLevel(level)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    lines = out.getvalue().strip().splitlines()
    found = json.loads(lines[-1]) if lines else {}
    if code not in _ANSWERS:
        kinds = (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, OnnxPruneError))
        raised = next((kind for kind in kinds if kind.exit_code == code), OnnxPruneError)
        raise raised(f"step {arguments[0]}: {found.get('error', f'exit code {code}')}", remedy=found.get("remedy"))
    return Answer(code, found)


class _Flushed(io.TextIOBase):
    """Writes through: what a killed run said is on the disk."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        """Write, and hand over to the system."""
        count = self._file.write(text)
        self._file.flush()
        return count
