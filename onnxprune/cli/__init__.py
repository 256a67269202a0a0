"""The command line. `main` is the console script; commands load what they need when they run."""

from __future__ import annotations

import gc
import signal
import sys
from io import TextIOWrapper

_GARBAGE = 100_000  # objects between two looks for cycles: the default, 700, costs an inspection a tenth of its time
_TERMINATED = 128 + signal.SIGTERM


def main() -> None:
    """Run the command line: one line for what goes wrong, and its exit code (README, "Exit codes")."""
    from onnxprune.cli.app import run

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # a name that the terminal has no letters for is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    gc.set_threshold(_GARBAGE)
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(run())


def _stop(number: int, frame: object) -> None:
    """Leave as on any error, so that temporary files are removed."""
    sys.exit(_TERMINATED)
