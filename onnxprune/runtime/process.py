"""ONNX Runtime in a process of its own: it may crash, print what it likes and hold the whole model in memory.

    answer = ask("onnxprune.runtime.verify", request)

runs that module, whose `main` is `serve(function)`: the request comes as JSON on standard input, the answer goes as
JSON to standard output, as its last line. An error of ours is raised again on this side.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from onnxprune import errors
from onnxprune.errors import OnnxPruneError


class BrokeDownError(Exception):
    """The process ended without an answer; the text is its last line on standard error."""


def ask(module: str, request: dict[str, Any]) -> dict[str, Any]:
    """The answer of `module` to `request`. Raises what the module raised of ours, and BrokeDownError."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", module],  # -P: the user's folder is no place for modules
        input=json.dumps(request), capture_output=True, encoding="utf-8", errors="replace", check=False,
    )  # fmt: skip
    if done.returncode != 0 or not done.stdout.strip():
        raise BrokeDownError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1].strip())
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    if "error" in answer:
        kind: type[OnnxPruneError] = getattr(errors, answer["error"])
        raise kind(answer["message"], remedy=answer["remedy"])
    return answer


def serve(function: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer one request from standard input with what `function` gives or raises."""
    try:
        answer = function(json.load(sys.stdin))
    except OnnxPruneError as error:
        answer = {"error": type(error).__name__, "message": error.message, "remedy": error.remedy}
    print("\n" + json.dumps(answer))
