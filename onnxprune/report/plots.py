"""The report's plots, by Plotly: interactive, in colours that colour-blind people tell apart."""

from __future__ import annotations

import json
import math
from typing import Any

from onnxprune.errors import RuntimeMissingError
from onnxprune.report.facts import Facts

BEFORE, AFTER, OTHER = "#999999", "#0072B2", "#D55E00"  # Okabe and Ito's palette
_LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DASHES = ("solid", "dash", "dot")
_CURVES = 12  # groups whose sensitivity is drawn in colour at first, the most sensitive ones
_NAMED = 48  # that the legend has, where a click shows them; each takes a browser some milliseconds
_BAR = 18  # pixels a group
_ALL_NAMED = 80  # rows up to which each has its name beside it
_LETTER = 7  # pixels, at the page's size of letters
_ROOM = 420  # pixels for names, at the most: the ends of longer ones are seen, and there is a plot beside them
_LAYERS = 60  # that are drawn, those that take longest


def plots(facts: Facts) -> dict[str, dict[str, Any]]:
    """Title -> a figure as Plotly's JSON (data, layout), for all that there is something to draw of.

    Raises RuntimeMissingError where Plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise RuntimeMissingError(
            "reports need Plotly, which is not installed", remedy="`pip install onnxprune[report]`"
        ) from error
    found: dict[str, Any] = {}
    if facts.search is not None:
        found["Candidates"] = _candidates(go, facts.search)
    if facts.widths:
        found["Widths before and after"] = _widths(go, facts)
    if facts.zeros:
        found["Zeros"] = _zeros(go, facts.zeros)
    if facts.sensitivity is not None:
        found["Sensitivity"] = _sensitivity(go, facts.sensitivity)
    if any(course["history"] for course in facts.training):
        found["Training"] = _training(go, facts.training)
    if facts.latency is not None:
        found["Latency"] = _latency(go, facts.latency)
        if facts.latency.get("layers"):
            found["Latency by layer"] = _layers(go, facts.latency["layers"])
    return {title: json.loads(figure.to_json()) for title, figure in found.items()}


def _candidates(go: Any, search: dict[str, Any]) -> Any:
    what = search["minimise"]
    figure = go.Figure()
    for name, code_is, colour, symbol in (
        ("within the limits", True, AFTER, "circle"),
        ("beyond them", False, OTHER, "x"),
    ):
        trials = [
            t for t in search["trials"]
            if t["loss"] is not None and what in (t["shares"] or {}) and (t["code"] == 0) == code_is
        ]  # fmt: skip
        figure.add_scatter(
            x=[100 * t["shares"][what] for t in trials], y=[t["loss"] for t in trials], mode="markers", name=name,
            marker={"color": colour, "symbol": symbol, "size": 9},
            text=["<br>".join(f"{k} = {v}" for k, v in t["values"].items()) for t in trials],
            hovertemplate="%{text}<br>%{x:.1f} % left<br>worse by %{y:.4g}<extra></extra>",
        )  # fmt: skip
    front = search["front"]
    figure.add_scatter(
        x=[100 * t["shares"][what] for t in front], y=[t["loss"] for t in front], mode="lines", name="front",
        line={"color": BEFORE, "shape": "hv"}, hoverinfo="skip",
    )  # fmt: skip
    figure.update_xaxes(title=f"{what} left, %")
    figure.update_yaxes(title="metric worse by")
    return figure


def _widths(go: Any, facts: Facts) -> Any:
    rows = facts.widths
    figure = _pairs(
        go, [row.name for row in rows], [row.before for row in rows], [row.after for row in rows],
        [row.kind for row in rows], "%{y} (%{customdata}): %{x} units<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(title="units")
    return figure


def _layers(go: Any, layers: list[dict[str, Any]]) -> Any:
    def longest(row: dict[str, Any]) -> float:
        return max(row["dense_ms"] or 0.0, row["pruned_ms"] or 0.0)

    ranked = sorted(layers, key=longest, reverse=True)[:_LAYERS]
    rows = [row for row in layers if row in ranked]
    figure = _pairs(
        go, [row["name"] for row in rows], [row["dense_ms"] for row in rows], [row["pruned_ms"] for row in rows],
        [row["op"] for row in rows], "%{y} (%{customdata}): %{x:.4f} ms<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(title=f"ms; {len(rows)} longest of {len(layers)}")
    return figure


def _pairs(go: Any, names: list[str], before: list[Any], after: list[Any], kinds: list[str], hover: str) -> Any:
    """Horizontal bars, the one after before the one before, from the top down."""
    figure = go.Figure()
    for name, values, colour in (("before", before, BEFORE), ("after", after, AFTER)):
        figure.add_bar(
            y=names[::-1], x=values[::-1], name=name, orientation="h", marker={"color": colour},
            customdata=kinds[::-1], hovertemplate=hover,
        )  # fmt: skip
    figure.update_layout(barmode="overlay", height=max(200, 110 + _BAR * len(names)), bargap=0.25)
    _name_rows(figure, names)
    return figure


def _name_rows(figure: Any, names: list[str]) -> None:
    """Room for the names at the left: every one of a few, else some, which a browser measuring them draws twice."""
    if len(names) <= _ALL_NAMED:
        figure.update_yaxes(automargin=True, dtick=1)
    else:
        figure.update_layout(margin={"l": min(20 + _LETTER * max(map(len, names)), _ROOM)})


def _zeros(go: Any, zeros: list[dict[str, Any]]) -> Any:
    """A row a weight, dark where it is zero, along its outputs (of a MatMul, its inputs)."""
    rows = zeros[::-1]
    width = max(len(row["parts"]) for row in rows)
    spread = [[row["parts"][k * len(row["parts"]) // width] for k in range(width)] for row in rows]
    told = [[f"{row['name']} {row['shape']}: {row['share']:.1%} zeros in all"] * width for row in rows]
    figure = go.Figure()
    figure.add_heatmap(
        y=[row["name"] for row in rows], x=[(k + 0.5) / width for k in range(width)], z=spread, zmin=0, zmax=1,
        colorscale=[[0, "#F0E442"], [0.5, "#56B4E9"], [1, "#003A5D"]], text=told, colorbar={"title": "zeros"},
        hovertemplate="%{text}<br>here %{z:.1%}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(height=max(200, 110 + _BAR * len(rows)))
    _name_rows(figure, [row["name"] for row in rows])
    figure.update_xaxes(title="along the first axis")
    return figure


def _sensitivity(go: Any, found: dict[str, Any]) -> Any:
    sign = 1 if found["higher_is_better"] else -1
    groups = [group for group in found["groups"] if all(value is not None for value in group["values"])]
    ranked = sorted(groups, key=lambda group: min(sign * value for value in group["values"]))
    curves = [(group["name"], _removed(group, found["dense"])) for group in ranked]
    figure = go.Figure()
    if len(curves) > _NAMED:
        _background(figure, curves[_NAMED:])
    for number, (name, points) in enumerate(curves[:_NAMED]):
        figure.add_scatter(
            x=[x for x, _ in points], y=[y for _, y in points], mode="lines+markers", name=name,
            visible=True if number < _CURVES else "legendonly",
            line={"color": _LINES[number % len(_LINES)], "dash": _DASHES[number // len(_LINES) % len(_DASHES)]},
        )  # fmt: skip
    figure.update_layout(height=480)
    figure.update_xaxes(title="units removed of it alone, %")
    figure.update_yaxes(title=found["metric"])
    return figure


def _removed(group: dict[str, Any], dense: float | None) -> list[tuple[float, float]]:
    """A group's curve: the share of its units that is removed, in percent, and the metric."""
    start = [] if dense is None else [(0.0, dense)]
    shares = [100 * (1 - kept / group["size"]) for kept in group["kept"]]
    return [*start, *zip(shares, group["values"], strict=True)]


def _background(figure: Any, curves: list[tuple[str, list[tuple[float, float]]]]) -> None:
    """Many curves as one grey trace with gaps, named where the pointer is."""
    gap = (None, None)
    points = [point for _, curve in curves for point in (*curve, gap)]
    figure.add_scatter(
        x=[x for x, _ in points], y=[y for _, y in points], mode="lines", name=f"{len(curves)} less sensitive groups",
        line={"color": BEFORE, "width": 0.5}, text=[name for name, curve in curves for _ in (*curve, gap)],
        hovertemplate="%{text}<br>%{x:.1f} % removed: %{y:.4g}<extra></extra>",
    )  # fmt: skip


def _training(go: Any, courses: list[dict[str, Any]]) -> Any:
    figure = go.Figure()
    for course in courses:
        rows = [row for row in course["history"] if row.get("metric") is not None]
        figure.add_scatter(
            x=[row["epoch"] for row in rows], y=[row["metric"] for row in rows], mode="lines+markers",
            name=course["name"],
        )  # fmt: skip
    figure.update_xaxes(title="epoch")
    figure.update_yaxes(title="metric")
    return figure


def _latency(go: Any, found: dict[str, Any]) -> Any:
    figure = go.Figure()
    for name, key, colour in (("dense", "dense_ms", BEFORE), ("pruned", "pruned_ms", AFTER)):
        values = found[key]
        figure.add_bar(
            x=list(values), y=list(values.values()), name=name, marker={"color": colour},
            text=[_short(value) for value in values.values()], textposition="outside",
        )  # fmt: skip
    figure.update_yaxes(title="milliseconds", rangemode="tozero")
    return figure


def _short(value: float) -> str:
    digits = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0
    return f"{value:.{min(digits, 6)}f}"
