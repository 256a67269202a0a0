"""A bar for what takes long: on standard error, where a terminal is; nothing stays of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from onnxprune.cli.session import Session

if TYPE_CHECKING:
    from onnxprune.runtime.stream import Progress


@contextmanager
def samples_bar(here: Session, title: str, total: int | None) -> Iterator[Progress]:
    """A bar named `title`; what is given is to be called with how much is done, and the total where it is known."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    silent = here.quiet or here.json or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=silent) as bar:
        task = bar.add_task("", total=total)
        yield lambda done, total: bar.update(task, completed=done, total=total)
