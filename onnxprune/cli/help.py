"""How help is laid out: options under the headings of their panels, in plain text, which starts in half Rich's time."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand

WIDTH = 100
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": WIDTH}


class Command(TyperCommand):
    """A command whose help gathers options by `rich_help_panel`, in the order in which panels first appear."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write one section per panel."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                kind = "Arguments" if param.param_type_name == "argument" else "Other options"
                panels.setdefault(getattr(param, "rich_help_panel", None) or kind, []).append(record)
        for title, rows in panels.items():
            section(formatter, title, rows)


def section(formatter: Any, title: str, rows: list[tuple[str, str]]) -> None:
    """Write a heading, and a definition list under it. Escape codes are stripped where no terminal is."""
    with formatter.section(typer.style(title, bold=True)):
        formatter.write_dl(rows)
