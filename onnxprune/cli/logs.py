"""What is said of a training run while it runs: a bar on a terminal, lines of epochs, CSV, TensorBoard."""

from __future__ import annotations

import csv
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from onnxprune.cli.session import Session
from onnxprune.errors import OutputError

COLUMNS = ("epoch", "step", "loss", "rate", "metric", "seconds")


class Logs:
    """Is called with what the trainer tells (recover/trainer.py), as a context manager around the run."""

    def __init__(self, here: Session, table: Path | None, events: Path | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        silent = here.quiet or here.json or not console.is_terminal
        columns = (
            TextColumn("Training"), BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.4f}"),
            TextColumn("metric {task.fields[metric]:.4f}"), TimeRemainingColumn(),
        )  # fmt: skip
        self._here = here
        self._bar = Progress(*columns, console=console, transient=True, disable=silent)
        self._task = self._bar.add_task("", total=None, loss=float("nan"), metric=float("nan"))
        self._name = table or events
        self._file: Any = None
        self._events: Any = None
        try:
            if table is not None:
                self._file = table.open("a", newline="")
                self._writer = csv.DictWriter(self._file, COLUMNS, restval="")
                if not self._file.tell():
                    self._writer.writeheader()
            if events is not None:
                from onnxprune.recover.device import events_in

                self._events = events_in(str(events))
        except OSError as error:
            raise OutputError(f"cannot write {self._name}: {error.strerror}", remedy="name another path") from error

    def __enter__(self) -> Logs:
        self._bar.start()
        return self

    def __call__(self, told: dict[str, Any]) -> None:
        if "metric" in told:
            loss = f", loss {told['loss']:.4f}" if "loss" in told else ""
            self._here.say_plain(f"epoch {told['epoch']}: metric {told['metric']:.4f}{loss}, {told['seconds']:.0f} s")
        shown = {key: told[key] for key in ("loss", "metric") if key in told}
        self._bar.update(self._task, completed=told["step"], total=told["steps"], **shown)
        try:
            self._write(told)
        except OSError as error:
            raise OutputError(f"cannot write {self._name}: {error.strerror}", remedy="free some space") from error

    def _write(self, told: dict[str, Any]) -> None:
        if self._file is not None:
            self._writer.writerow({key: told[key] for key in COLUMNS if key in told})
            self._file.flush()
        if self._events is not None:
            for key in ("loss", "rate", "metric"):
                if key in told:
                    self._events.add_scalar(key if "epoch" not in told else f"epoch/{key}", told[key], told["step"])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        for opened in (self._file, self._events):
            if opened is not None:
                with suppress(OSError):  # each row was flushed when it was written
                    opened.close()
