"""One task, one process: what crashes, hangs or leaves a library in pieces costs that task alone.

The processes are forked from a server that has the heavy imports behind it and has run nothing.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

Task = Callable[..., dict[str, Any]]

_context = multiprocessing.get_context("forkserver")


def start_server(preload: str) -> None:
    """To be called before the first task; the server takes its environment from here, and imports `preload` once."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)
    _context.set_forkserver_preload([preload])


def run(task: Task, arguments: tuple[Any, ...], timeout: float) -> dict[str, Any]:
    """The task's result, or a status in its place where there is none."""
    receiver, sender = _context.Pipe(duplex=False)
    process = _context.Process(target=_send, args=(sender, task, arguments))
    process.start()
    sender.close()
    result: dict[str, Any] = {"status": "timeout", "seconds": timeout}
    if receiver.poll(timeout):
        try:
            result = receiver.recv()
        except EOFError:
            process.join()
            result = {"status": "fail", "why": f"exit code {process.exitcode}"}
    if process.is_alive():
        process.join(5)
        process.kill()
    process.join()
    return result


def _send(sender: Connection, task: Task, arguments: tuple[Any, ...]) -> None:
    sender.send(task(*arguments))
