"""`--threads` holds for numpy's products, too: BLAS would take all processors, and wait for them where others run."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any


def in_threads(function: Callable[..., None]) -> Callable[..., None]:
    """The command, in no more threads than its option `threads` says; 0, or no such option, leaves numpy the choice."""

    @wraps(function)
    def call(**given: Any) -> None:
        threads = given.get("threads", 0)
        if not threads:
            function(**given)
            return
        from onnxprune.runtime.workers import blas_threads

        with blas_threads(threads):
            function(**given)

    return call
