"""`onnxprune doctor`: is this environment fit, and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from onnxprune.cli.options import Common

if TYPE_CHECKING:
    from onnxprune.cli.session import Session
    from onnxprune.runtime.environment import Environment


def doctor(common: Common) -> None:
    """Show versions, which providers really load, and what is wrong.

    Ends with exit code 7 where something is wrong.
    """
    from onnxprune.cli.session import Session
    from onnxprune.runtime.environment import examine

    here = Session(common)
    with here.step("Looking at the environment"):
        found = examine()
    _show(here, found)
    here.answer(found.as_dict())
    if found.problems:
        raise typer.Exit(7)


def _show(here: Session, found: Environment) -> None:
    from rich.table import Table

    packages = Table("package", "version", "for")
    for package in found.packages:
        packages.add_row(package.name, package.version or "not installed", package.purpose)
    here.say_plain(f"Python {found.python} on {found.platform}")
    here.say(packages)
    if found.imported is not None:
        here.say_plain(f"ONNX Runtime {found.imported} is the one that is imported")
    if found.providers:
        providers = Table("ONNX Runtime's provider", "loads")
        for name, why_not in found.providers.items():
            providers.add_row(name, "yes" if why_not is None else f"no: {why_not}")
        here.say(providers)
    for problem in found.problems:
        here.say_plain(f"problem: {problem}")
    if not found.problems:
        here.say("no problems found")
