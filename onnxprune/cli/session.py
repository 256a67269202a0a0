"""What every command sets up: how much is printed and where, ONNX Runtime's options, the analysed model."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from onnxprune.cli.options import Analysis, Common
from onnxprune.cli.reading import read_bind, read_input_shapes, read_provider_options
from onnxprune.errors import RuntimeMissingError, SettingError
from onnxprune.runtime.ort import RunOptions, check_provider_name

if TYPE_CHECKING:
    from onnxprune.coupling.coupling import Coupling
    from onnxprune.graph.bindings import Bindings
    from onnxprune.graph.model import Model
    from onnxprune.graph.view import GraphView

log = logging.getLogger(__name__)

PIPE_WIDTH = 200  # where no terminal gives a width: names stay whole, so that they can be searched for


class Session:
    """One command's surroundings. Answers go to standard output; progress, warnings and errors to standard error."""

    def __init__(self, common: Common) -> None:
        self.json, self.verbose, self.quiet, self.seed = common.as_json, common.verbose, common.quiet, common.seed
        loud = (logging.WARNING, logging.INFO, logging.DEBUG)[min(self.verbose, 2)]
        _log_to_stderr(logging.ERROR if self.quiet else loud)
        libraries = common.custom_op_library or []
        for library in libraries:
            if not library.is_file():
                raise SettingError(f"--custom-op-library {library}: there is no such file", remedy="check the path")
        check_provider_name(common.provider)
        settings = read_provider_options(common.provider_option)
        self.options = RunOptions(common.provider, common.threads, tuple(map(str, libraries)), common.seed, settings)

    def say(self, *things: Any) -> None:
        """Print sentences and tables for a person."""
        if self.quiet or self.json:
            return
        from rich.console import Console

        console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False, markup=False)
        for thing in things:
            console.print(thing)

    def say_plain(self, text: str) -> None:
        """Print a line as it is: names may look like markup, and a path must not be broken into two lines."""
        if not self.quiet and not self.json:
            print(text)

    def warn(self, text: str) -> None:
        """Print a warning to standard error."""
        log.warning("%s", text)

    def detail(self, text: str) -> None:
        """Print to standard error what -v asks for."""
        log.info("%s", text)

    def answer(self, found: Mapping[str, Any]) -> None:
        """Print one JSON object, if that was asked for."""
        if self.json:
            import json

            print(json.dumps(found))

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Show on a terminal what is going on; with -v say how long it took."""
        started = time.perf_counter()
        if self.quiet or self.json or not sys.stderr.isatty():
            yield
        else:
            from rich.console import Console

            with Console(stderr=True).status(what):
                yield
        log.info("%s: %.1f s", what, time.perf_counter() - started)

    def analyse(self, model: Model, given: Analysis) -> Coupling:
        """Analyse a model under the options as given."""
        return self.analyse_with(
            model,
            {
                "bind": read_bind(given.bind),
                "input_shapes": read_input_shapes(given.input_shapes),
                "allow_io_change": given.allow_io_change or (),
                "specialise_functions": given.specialise_functions,
            },
        )

    def analyse_with(self, model: Model, options: Mapping[str, Any]) -> Coupling:
        """Analyse a model; shapes that inference leaves open are measured where ONNX Runtime is installed."""
        from onnxprune.analyse import analyse

        with self.step(f"Analysing {model.path}"):
            return analyse(model, measure=self._measure, **options)

    def _measure(self, view: GraphView, bindings: Bindings, names: list[str]) -> dict[str, tuple[int, ...]]:
        from onnxprune.runtime.measure import measure_apart

        try:
            return measure_apart(view, bindings, names, self.options)
        except RuntimeMissingError as error:
            log.warning(
                "%d shapes are not known without running the model, and what they belong to stays as it is: %s",
                len(names),
                error,
            )
            return {}


def require(package: str, what: str, extra: str) -> None:
    """Raise RuntimeMissingError where an optional package is not installed."""
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise RuntimeMissingError(
            f"{what} need {package}, which is not installed", remedy=f"`pip install onnxprune[{extra}]`"
        )


class _Stderr(logging.StreamHandler):
    """Writes to what `sys.stderr` is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def _log_to_stderr(level: int) -> None:
    """Let what is logged from `level` on reach the user; others who listen to the loggers hear warnings as before."""
    logger = logging.getLogger("onnxprune")
    handler = next((found for found in logger.handlers if isinstance(found, _Stderr)), None)
    if handler is None:
        handler = _Stderr()
        handler.setFormatter(logging.Formatter("onnxprune: %(message)s"))
        logger.addHandler(handler)
    handler.setLevel(level)
    logger.setLevel(min(level, logging.WARNING))
