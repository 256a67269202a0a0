"""The report's tables as rows of text, the same for HTML and Markdown."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from onnxprune.display import amount
from onnxprune.report.facts import Facts

_ROWS = 15  # of tables whose whole is drawn


@dataclass(frozen=True)
class Table:
    """Headings and rows under a title; `note` is a sentence below."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def tables(facts: Facts) -> list[Table]:
    """The headline, and all other tables that there is something to put into."""
    others = [_steps(facts), _zeros(facts), _layers(facts), _refusals(facts), _provenance(facts)]
    return [_headline(facts), *(table for table in others if table.rows)]


def _headline(facts: Facts) -> Table:
    rows, notes = [], []
    if facts.verdict is not None:
        v = facts.verdict
        worse = ""
        if d := v.get("difference"):
            worse = f"worse by {d['loss']:.4g} ({d['low']:.4g} to {d['high']:.4g})"
            notes.append(
                f"{v['metric']} on {v['samples']} samples of {v['data']}; "
                f"{d['confidence']:.0%} interval by {d['method']}"
                + ("" if d["is_change"] else "; these samples show no change")
            )
        rows.append((v["metric"], figure(v["dense"]), figure(v["pruned"]), worse))
    if facts.latency is not None:
        t = facts.latency
        left = t["ratio"]
        rows.append(
            ("latency, p50", f"{t['dense_ms']['p50']:.3f} ms", f"{t['pruned_ms']['p50']:.3f} ms",
             f"{left['median']:.1%} left ({left['low']:.1%} to {left['high']:.1%})")
        )  # fmt: skip
        threads = t["threads"] or "as many threads as ONNX Runtime chooses"
        notes.append(
            f"latency with batch {t['batch']}, {threads} thread(s), {t['provider']}, {t['rounds']} rounds in turn"
        )
    for name, (before, after) in facts.figures.items():
        rows.append((name, amount(before), amount(after), f"{after / before:.1%} left" if before else ""))
    return Table("Before and after", ("", "dense", "result", ""), tuple(rows), ". ".join(notes))


def _steps(facts: Facts) -> Table:
    outcomes = {0: "done", 4: "the budget cannot be met", 9: "a limit is broken"}
    rows = []
    for step in facts.steps:
        outcome = outcomes.get(step["code"], str(step["code"]))
        if step["name"] in facts.rolled_back:
            outcome += ", taken back"
        rows.append((step["name"], outcome, f"{step['seconds']:.1f} s", shlex.join(step["command"])))
    return Table("Steps", ("step", "outcome", "took", "command"), tuple(rows))


def _zeros(facts: Facts) -> Table:
    rows = tuple(
        (item["name"], " x ".join(map(str, item["shape"])), f"{item['share']:.1%}")
        for item in sorted(facts.zeros, key=lambda item: -item["share"])[:_ROWS]
    )
    return Table("Zeros", ("weight", "shape", "zeros"), rows)


def _layers(facts: Facts) -> Table:
    layers = (facts.latency or {}).get("layers") or []
    slowest = sorted(layers, key=lambda row: -max(row["dense_ms"] or 0.0, row["pruned_ms"] or 0.0))[:_ROWS]
    rows = tuple(
        (row["name"], row["op"], *("" if row[at] is None else f"{row[at]:.4f}" for at in ("dense_ms", "pruned_ms")))
        for row in slowest
    )
    return Table("Layers that take longest", ("as ONNX Runtime runs it", "operator", "dense, ms", "result, ms"), rows)


def _refusals(facts: Facts) -> Table:
    rows = tuple((str(r["axes"]), r["op"], r["why"], r["example"], r["help"]) for r in facts.refusals)
    return Table("What stays, and why", ("axes", "at", "why", "for example", "what helps"), rows)


def _provenance(facts: Facts) -> Table:
    p = facts.provenance
    rows = [
        ("dense model", p["dense"]), ("its XXH3", p["dense_digest"]), ("recipe's SHA-256", p["recipe_sha256"]),
        ("folder", p["folder"]), ("result", p["model_from"] or "no step made a model"),
        *((f"version of {name}", version) for name, version in p["versions"].items()),
        *p["machine"].items(),
        *((f"{step['name']}/{file}", sha256) for step in facts.steps for file, sha256 in step["outputs"].items()),
    ]  # fmt: skip
    return Table("Provenance", ("", ""), tuple((str(name), str(value)) for name, value in rows))


def figure(value: float | None) -> str:
    """A metric's figure; None is what JSON has for an infinite one."""
    return "infinite" if value is None else f"{value:.6g}"
