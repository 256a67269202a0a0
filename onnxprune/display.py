"""How values are shown: amounts and shares in few digits, and HTML tables for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_STEPS = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


def amount(value: float) -> str:
    """A count in few digits: 25_557_032 -> "25.56 M"."""
    for step, unit in _STEPS:
        if value >= step:
            return f"{value / step:.2f} {unit}"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def share(part: float, whole: float) -> str:
    """A part of a whole in percent."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def html_table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of cells as text: what `_repr_html_` of the public types gives."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
