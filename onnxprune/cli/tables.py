"""Tables and sentences for a person: amounts, groups, what is frozen and why, before and after."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

from rich.table import Table

from onnxprune.coupling.refusals import by_reason
from onnxprune.display import amount, share
from onnxprune.types import Cost, Group, Refusal

if TYPE_CHECKING:
    from onnxprune.cli.explaining import Row
    from onnxprune.repair.layer import Refit
    from onnxprune.repair.together import Joined


def groups_table(groups: Sequence[Group], cost: Cost, limit: int | None) -> Table:
    """The groups with what all their units together carry, the largest first if they are too many to show."""
    table = Table(title=f"{len(groups)} groups of units that can be removed", title_justify="left")
    for column, justify in (
        ("group", "left"),
        ("kind", "left"),
        ("units", "right"),
        ("parameters", "right"),
        ("MACs", "right"),
        ("exact", "left"),
    ):
        table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    shown = list(groups)
    if limit is not None and len(shown) > limit:
        largest = sorted(groups, key=lambda g: -g.parameters * g.size)[:limit]
        shown = sorted(largest, key=lambda g: g.index)
    for group in shown:
        table.add_row(
            group.name,
            group.kind,
            str(group.size),
            share(group.parameters * group.size, cost.parameters),
            share(group.macs * group.size, cost.macs),
            "yes" if group.exact else "; ".join(group.mixes),
        )
    if len(shown) < len(groups):
        table.caption = f"{len(groups) - len(shown)} smaller groups not shown; -v shows all"
    return table


_UNREMARKABLE = frozenset({"kernel tap"})
"""Nobody expects these to go; they are in the JSON."""


def refusals_table(refusals: Iterable[Refusal], limit: int | None) -> Table:
    """What must stay, gathered by reason."""
    table = Table(title="What stays, and why", title_justify="left")
    table.add_column("axes", justify="right")
    table.add_column("at")
    table.add_column("why", overflow="fold")
    table.add_column("for example", overflow="fold")
    table.add_column("what helps", overflow="fold")
    rows = by_reason(refusal for refusal in refusals if refusal.why not in _UNREMARKABLE)
    for row in rows[:limit]:
        table.add_row(str(row.axes), row.op, row.why, row.example, row.help)
    if limit is not None and len(rows) > limit:
        table.caption = f"{len(rows) - limit} further reasons not shown; -v shows all"
    return table


def before_after(rows: Mapping[str, tuple[float, float]]) -> Table:
    """Figures before and after, with the share that is left."""
    table = Table(title_justify="left")
    for column in ("", "before", "after", "left"):
        table.add_column(column, justify="left" if not column else "right")
    for name, (before, after) in rows.items():
        table.add_row(name, amount(before), amount(after), share(after, before))
    return table


_KNOWN_LATER: tuple[tuple[str, Callable[[Row], str | None]], ...] = (
    ("time saved", lambda row: None if row.time_saved is None else share(row.time_saved, 1)),
    ("outputs lost", lambda row: None if row.outputs_lost is None else f"{row.outputs_lost:.2g}"),
    ("error", lambda row: None if row.error_before is None else share(row.error_before, 1)),
    ("repaired", lambda row: None if row.error_after is None else share(row.error_after, 1)),
)
"""Columns of a plan that are there once one group has something in them."""


def plan_table(rows: Sequence[Row], limit: int | None) -> Table:
    """Per group that changes: kind, units kept of total, importance lost, what that saves, and what it costs."""
    table = Table(title="Plan", title_justify="left")
    changed = [row for row in rows if row.kept != row.size]
    later = [(title, show) for title, show in _KNOWN_LATER if any(show(row) is not None for row in changed)]
    for column in ("group", "kind"):
        table.add_column(column, overflow="fold")
    for column in ("kept", "importance lost", "MACs saved", *(title for title, _ in later)):
        table.add_column(column, justify="right", overflow="fold")
    for row in changed[:limit]:
        figures = [f"{row.kept} of {row.size}", share(row.importance_lost, 1), share(row.macs_saved, 1)]
        table.add_row(row.name, row.kind, *figures, *(show(row) or "" for _, show in later))
    if limit is not None and len(changed) > limit:
        table.caption = f"{len(changed) - limit} further groups not shown; -v shows all"
    return table


def repair_table(layers: Sequence[Refit]) -> Table:
    """Each layer's error before and after it was re-fitted."""
    return _errors("Re-fitted layers", "layer", [(x.layer, x.before, x.after, x.changed) for x in layers])


def section_table(sections: Sequence[Joined]) -> Table:
    """The error behind each section before and after its layers were fitted together."""
    return _errors("Fitted together", "layers", [(x.title, x.before, x.after, x.changed) for x in sections])


def together(sections: Sequence[Joined]) -> str:
    """What became of sections that have changed, in one line."""
    before, after = median(section.before for section in sections), median(section.after for section in sections)
    longest = max(section.layers for section in sections)
    return (
        f"fitted layers together, up to {longest} at a time, in {len(sections)} sections; the error behind these: "
        f"{before:.1%} before, {after:.1%} after (median)"
    )


def _errors(title: str, what: str, rows: Sequence[tuple[str, float, float, bool]]) -> Table:
    table = Table(what, "error before", "after", title=title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, before, after, changed in rows:
        table.add_row(name, f"{before:.2%}", f"{after:.2%}" if changed else "kept")
    return table
