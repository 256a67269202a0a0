"""The report as Markdown: the tables, for a merge request or a wiki."""

from __future__ import annotations

from onnxprune.report.facts import Facts
from onnxprune.report.tables import tables


def to_markdown(facts: Facts) -> str:
    """The tables under their titles."""
    parts = [f"# {_escaped(facts.title)}"]
    for table in tables(facts):
        rows = [table.columns, tuple("---" for _ in table.columns), *table.rows]
        lines = ["| " + " | ".join(_escaped(cell) for cell in row) + " |" for row in rows]
        parts.append("\n".join([f"## {table.title}", "", *lines]))
        if table.note:
            parts.append(table.note + ".")
    return "\n\n".join(parts) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
