"""A command of the user's: its words, and the number that it prints."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from onnxprune.errors import SettingError
from onnxprune.runtime.command import milliseconds

MODEL = Path("some model.onnx")


def python(code: str) -> str:
    return f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} {{model}}"


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("print('mean 12.5 ms')", 12.5),
        ("print('1 thread'); print('3e1')", 30.0),
        ("import sys; print(len(sys.argv[1]))", len("some model.onnx")),  # one word, whatever is in it
    ],
)
def test_the_last_number(code: str, found: float) -> None:
    assert milliseconds(python(code), MODEL) == found


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("bench", "does not say where the model goes"),
        ("bench '{model}", "No closing quotation"),
        ("/no/such/bench {model}", "cannot run /no/such/bench"),
        (python("import sys; print('out of memory', file=sys.stderr); sys.exit(3)"), "code 3: out of memory"),
        (python("print('done')"), "printed no milliseconds"),
        (python("print('0')"), "printed no milliseconds"),
    ],
)
def test_what_goes_wrong(command: str, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        milliseconds(command, MODEL)
