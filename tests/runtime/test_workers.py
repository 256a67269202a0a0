"""Threads for numpy's work: order, number, and BLAS beside them."""

from __future__ import annotations

import threading
import time

import pytest

from onnxprune.runtime.workers import blas_threads, workers
from tests.support.blas import threads_of_blas


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_results_come_in_the_order_of_their_items(threads: int) -> None:
    def late(number: int) -> int:
        time.sleep(0.02 if number == 0 else 0)
        return number * number

    with workers(threads) as each:
        assert list(each(late, range(6))) == [0, 1, 4, 9, 16, 25]


def test_as_many_threads_as_are_asked_for_work_at_once() -> None:
    together = threading.Barrier(3, timeout=10)  # broken, with an error, if fewer than three come
    with workers(3) as each:
        assert sorted(each(lambda _: together.wait(), range(3))) == [0, 1, 2]
    with workers(1) as each:
        assert list(each(lambda _: threading.get_ident(), range(2))) == [threading.get_ident()] * 2


@pytest.mark.parametrize("threads", [1, 2])
def test_blas_keeps_to_one_thread_meanwhile(threads: int) -> None:
    before = threads_of_blas()
    assert before
    with workers(threads):
        assert threads_of_blas() == {1}
    assert threads_of_blas() == before


def test_an_error_in_a_thread_is_raised_to_who_asked() -> None:
    def fails(number: int) -> int:
        return 1 // number

    with workers(2) as each, pytest.raises(ZeroDivisionError):
        list(each(fails, [1, 0]))


def test_limits_of_blas_can_be_within_each_other() -> None:
    before = threads_of_blas()
    with blas_threads(2), workers(1):
        assert threads_of_blas() == {1}
    assert threads_of_blas() == before
