"""What `--threads` says holds for numpy while a command runs, and no longer."""

from __future__ import annotations

import inspect

import pytest

from onnxprune.cli.threads import in_threads
from tests.support.blas import threads_of_blas


@pytest.mark.parametrize("given", [{"threads": 1}, {"threads": 0}, {}])
def test_numpy_keeps_to_the_threads_of_the_option(given: dict[str, int]) -> None:
    seen: list[set[int]] = []

    def command(*, threads: int = 0) -> None:
        """Does nothing but look."""
        seen.append(threads_of_blas())

    before = threads_of_blas()
    wrapped = in_threads(command)
    wrapped(**given)
    assert seen == [{1} if given.get("threads") else before]
    assert threads_of_blas() == before
    assert (wrapped.__doc__, inspect.signature(wrapped)) == (command.__doc__, inspect.signature(command))


def test_an_error_ends_the_limit_too() -> None:
    def fails(*, threads: int) -> None:
        raise ValueError(threads)

    before = threads_of_blas()
    with pytest.raises(ValueError, match="1"):
        in_threads(fails)(threads=1)
    assert threads_of_blas() == before
