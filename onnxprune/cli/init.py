"""`onnxprune init`: a recipe to begin with, written for the model at hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnxprune.cli.options import Analysis, Common, ModelPath

if TYPE_CHECKING:
    from onnxprune.coupling.coupling import Coupling

_OUTPUT = "Output"
SCHEMA_NAME = "recipe.schema.json"

RecipeOutput = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", rich_help_panel=_OUTPUT, metavar="RECIPE", help="To write.  [default: MODEL's name.yaml]"
    ),
]
DataPath = Annotated[
    str | None, typer.Option("--data", rich_help_panel=_OUTPUT, metavar="DATA", help="Labelled samples to judge by.")
]
MetricName = Annotated[
    str | None,
    typer.Option("--metric", rich_help_panel=_OUTPUT, metavar="NAME", help="[default: top1 with labels, else cosine]"),
]
Force = Annotated[bool, typer.Option("--force", rich_help_panel=_OUTPUT, help="Overwrite a recipe that is there.")]


def init(
    model: ModelPath,
    analysis: Analysis,
    common: Common,
    output: RecipeOutput = None,
    data: DataPath = None,
    metric: MetricName = None,
    force: Force = False,
) -> None:
    """Write a commented recipe for a model, and a schema for editors.

    The recipe prunes to three quarters of the MACs and validates the result; what it says of the model's groups is
    what `inspect` finds.
    """
    import json

    from onnxprune.cli.session import Session, require
    from onnxprune.cli.writing import check_targets
    from onnxprune.errors import OutputError
    from onnxprune.graph.atomic import AtomicFiles
    from onnxprune.graph.io import load

    here = Session(common)
    require("pydantic", "recipes", "loop")
    from onnxprune.cli.recipe import read_text
    from onnxprune.cli.settings import schema

    target = output or model.with_suffix(".yaml")
    if target.exists() and not force:
        raise OutputError(f"{target} is there already", remedy="give -o another name, or --force")
    loaded = load(model)
    check_targets(loaded, [target, target.with_name(SCHEMA_NAME)])
    coupling = here.analyse(loaded, analysis)
    judged = metric or ("top1" if _has_labels(data) else "cosine")
    text = _text(coupling, _relative(model, target), None if data is None else _relative_data(data, target), judged)
    read_text(text, str(target))  # what is written can be run
    with AtomicFiles() as files:
        files.create(target.with_name(SCHEMA_NAME)).write(json.dumps(schema(), indent=1).encode() + b"\n")
        files.create(target).write(text.encode())
    here.say_plain(f"wrote {target}; edit it, then: onnxprune run {target}")
    here.answer({"recipe": str(target), "schema": str(target.with_name(SCHEMA_NAME))})


def _relative(path: Path, target: Path) -> str:
    import os

    return Path(os.path.relpath(path.resolve(), target.resolve().parent)).as_posix()


def _relative_data(given: str, target: Path) -> str:
    from onnxprune.runtime.functions import split

    script = split(given)
    if script is None:
        return _relative(Path(given), target)
    return _relative(script[0], target) + (f":{script[1]}" if script[1] else "")


def _text(coupling: Coupling, model: str, data: str | None, metric: str) -> str:
    import json

    cost = coupling.cost()
    kinds: dict[str, int] = {}
    for group in coupling.groups:
        kinds[group.kind] = kinds.get(group.kind, 0) + 1
    largest = sorted(coupling.groups, key=lambda g: -g.macs * g.size)[:5]
    groups = "\n".join(f"#   {g.name}: {g.kind}, {g.size} units" for g in largest)
    listed = ", ".join(f"{count} of {kind}" for kind, count in kinds.items())
    bound = "".join(f"\n  # bind: {name}={size}" for name, size in coupling.bindings.dims.items())
    is_fed = data is not None
    sharp = "" if is_fed else "# "
    return f"""\
# yaml-language-server: $schema={SCHEMA_NAME}
# A recipe: steps that are taken one after another, each a command of onnxprune with its options.
#   onnxprune run THIS                    takes them; a run that was cut short goes on where it was
#   onnxprune run THIS --set prune.max-macs=60%
#
# The model has {cost.parameters:,} parameters and {cost.macs:,} MACs, and {len(coupling.groups)} groups of units:
# {listed or "none that can go"}. Those with the most MACs:
{groups}
schema: 1
model: {json.dumps(model)}  # paths are relative to this file
# output: pruned.onnx  # a copy of the result beside that in the run's folder

defaults:  # settings of all steps that have them
  seed: 0
  threads: 1{bound}

steps:
  - prune:
      max-macs: 75%  # a share, or an amount such as 1.2G; max-params and pruning-ratio too
      criterion: l2  # wanda, flap and others look at activations: give them data (unlabelled samples)
      # data: calibration.npz
      ranking: local  # or global, isomorphic
      # scope: [channels, ffn, heads]  # kinds of groups that may go; width is the residual stream
      # ignore: ["{largest[0].name if largest else "*"}"]
{sharp and "# Name your data, and the figure is measured and kept to:"}{chr(10) if sharp else ""}\
{sharp}  - validate:
{sharp}      data: {json.dumps(data) if is_fed else "test.npz"}
{sharp}      metric: {metric}
{sharp}      max-drop: 0.01  # in the metric's own units; 1% is a share of the dense model's figure
{sharp}      latency: true
# Instead of one step, several small ones, the last of which is taken back where it breaks the limit:
#  - iterate:
#      times: 10
#      steps:
#        - prune: {{max-macs: 90%}}
#        - validate: {{data: test.npz, max-drop: 0.01}}
"""


def _has_labels(data: str | None) -> bool:
    """Whether a .npz has labels; of other data that is seen when it is read, and labels are supposed."""
    import numpy as np

    if data is None or not data.endswith(".npz") or not Path(data).is_file():
        return True
    with np.load(data, allow_pickle=False) as file:
        return "labels" in file.files
