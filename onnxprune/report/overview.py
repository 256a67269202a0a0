"""What can be removed from a model, as one HTML page that needs no network: groups, graph, what stays and why."""

from __future__ import annotations

from importlib.resources import files

from onnxprune.coupling.coupling import Coupling
from onnxprune.coupling.refusals import by_reason
from onnxprune.display import amount, share
from onnxprune.errors import RuntimeMissingError
from onnxprune.report.drawing import COLOURS, HEIGHT, MARKS, WIDTH, draw


def overview(coupling: Coupling, title: str) -> str:
    """The page. Raises RuntimeMissingError where Jinja2 is not installed."""
    try:
        from jinja2 import Environment
    except ImportError as error:
        raise RuntimeMissingError(
            "pages need Jinja2, which is not installed", remedy="`pip install onnxprune[report]`"
        ) from error
    package = files("onnxprune.report")
    template, style = (package.joinpath(name).read_text(encoding="utf-8") for name in ("overview.html.j2", "page.css"))
    dense, least = coupling.cost(), coupling.least_cost()

    groups = [
        (
            g.index + 1, COLOURS[g.index % len(COLOURS)], g.name, g.kind, g.size,
            share(g.parameters * g.size, dense.parameters), share(g.macs * g.size, dense.macs),
            "yes" if g.exact else "; ".join(g.mixes),
        )
        for g in coupling.groups
    ]  # fmt: skip
    page: str = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template).render(
        title=title, style=style, groups=groups, drawing=draw(coupling), colours=COLOURS, marks=MARKS,
        box=(WIDTH, HEIGHT), refusals=by_reason(coupling.refusals), nodes=len(coupling.view.nodes),
        parameters=amount(dense.parameters), macs=amount(dense.macs),
        reach=(
            share(dense.parameters - least.parameters, dense.parameters), share(dense.macs - least.macs, dense.macs)
        ),
    )  # fmt: skip
    return page
