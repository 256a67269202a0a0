"""A limit on processor time: fair to a slow peer on a machine that is busy with other things."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class TimeIsUp(BaseException):
    """Not an Exception: a peer that catches everything must not catch this."""


@contextmanager
def processor_seconds(limit: float) -> Iterator[None]:
    """Raises TimeIsUp in the block once it has used `limit` seconds of processor time."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
