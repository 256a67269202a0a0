"""The report as one HTML file that needs no network."""

from __future__ import annotations

import json
from importlib.resources import files

from onnxprune.errors import RuntimeMissingError
from onnxprune.report.facts import Facts
from onnxprune.report.plots import plots
from onnxprune.report.tables import tables


def to_html(facts: Facts) -> str:
    """The whole page. Raises RuntimeMissingError where Jinja2 or Plotly is not installed."""
    try:
        from jinja2 import Environment
    except ImportError as error:
        raise RuntimeMissingError(
            "reports need Jinja2, which is not installed", remedy="`pip install onnxprune[report]`"
        ) from error
    figures = plots(facts)
    from plotly.offline import get_plotlyjs

    package = files("onnxprune.report")
    template, style = (package.joinpath(name).read_text(encoding="utf-8") for name in ("page.html.j2", "page.css"))
    headline, *others = tables(facts)
    page: str = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template).render(
        facts=facts, style=style, headline=headline, tables=others, plotly=get_plotlyjs() if figures else "",
        figures=[(f"plot{number}", title) for number, title in enumerate(figures)],
        # "<" would end the script if a name held "</script>"
        data=json.dumps({f"plot{n}": figure for n, figure in enumerate(figures.values())}).replace("<", "\\u003c"),
        recipe=json.dumps(facts.provenance.get("recipe"), indent=1),
    )  # fmt: skip
    return page
