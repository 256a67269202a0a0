"""Several threads for numpy's work on large arrays, which lets go of Python's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from typing import Protocol, TypeVar

from threadpoolctl import threadpool_limits

T = TypeVar("T")
R = TypeVar("R")


class Each(Protocol):
    """Like `map`: the function's results for all items, in their order."""

    def __call__(self, function: Callable[[T], R], items: Iterable[T], /) -> Iterator[R]: ...


@contextmanager
def workers(threads: int) -> Iterator[Each]:
    """What goes through items in so many threads, 0 for as many as there are processors to use.

    BLAS keeps to one thread meanwhile: calls from several threads would wait for those that it has of its own.
    """
    count = threads or _usable()
    with blas_threads(1):
        if count == 1:
            yield map
            return
        with ThreadPoolExecutor(count) as pool:
            yield pool.map


@contextmanager
def blas_threads(count: int) -> Iterator[None]:
    """No more threads than that for products and solutions of numpy's."""
    import_module("numpy")  # what is not loaded yet cannot be limited
    with threadpool_limits(limits=count, user_api="blas"):
        yield


def _usable() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
