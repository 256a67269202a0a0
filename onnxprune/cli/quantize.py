"""`onnxprune quantize`: INT8 with Q/DQ nodes, by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from onnxprune.cli.calibration import Calibrating
from onnxprune.cli.options import Common, ModelPath, Writing

if TYPE_CHECKING:
    from onnxprune.graph.layout import Layout
    from onnxprune.graph.view import GraphView

_CHOICE = "Quantisation"


def quantize(
    model: ModelPath,
    calibrating: Calibrating,
    writing: Writing,
    common: Common,
    ignore: Annotated[
        list[str] | None,
        typer.Option(rich_help_panel=_CHOICE, metavar="GLOB", help="Nodes that stay as they are (repeatable)."),
    ] = None,
    ranges: Annotated[
        str, typer.Option(rich_help_panel=_CHOICE, metavar="NAME", help="Of activations: minmax, entropy, percentile.")
    ] = "minmax",
    target: Annotated[
        str, typer.Option(rich_help_panel=_CHOICE, metavar="NAME", help="What is to run it: tensorrt or cpu.")
    ] = "tensorrt",
    weight_bits: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=_CHOICE, metavar="N",
            help="8, or 7 for x86 CPUs without VNNI, whose 8-bit products saturate.  [default: 8; 7 for cpu]",
        ),
    ] = None,
) -> None:  # fmt: skip
    """Quantise a model to INT8 with Q/DQ nodes, in which zeros stay zeros.

    ONNX Runtime does it. Weights are symmetric and per channel; the rest is as the target wants it: for TensorRT
    activations symmetric and biases real; for a CPU activations unsigned and everything that can be in integers.
    Weights that followed 2:4 still do, which is checked.
    """
    from onnxprune.check import new_complaints
    from onnxprune.cli.session import Session
    from onnxprune.cli.writing import check_settings, check_targets
    from onnxprune.errors import SettingError
    from onnxprune.graph.io import load, save
    from onnxprune.graph.view import GraphView
    from onnxprune.runtime.data import open_data
    from onnxprune.runtime.ort import make_session
    from onnxprune.runtime.quantise import quantise
    from onnxprune.sparsity.survival import surviving

    here = Session(common)
    if writing.output is None:
        raise SettingError("no output is given", remedy="give -o OUT.onnx")
    if calibrating.data is None:
        raise SettingError("ranges are found on samples", remedy="give --data; no labels are needed")
    check_settings(writing)
    loaded = load(model)
    check_targets(loaded, [writing.output])
    view = GraphView(loaded)
    keep = _matching(view, ignore or [])
    data = open_data(
        calibrating.data, view, preprocess=calibrating.preprocess, samples=calibrating.samples, seed=here.seed
    )
    with here.step("Quantising"):
        made = quantise(
            loaded, data, batch=calibrating.batch or 16, ranges=ranges, keep=keep, target=target,
            weight_bits=weight_bits,
        )  # fmt: skip
    before, after = surviving(loaded, made)

    def check(path: Path) -> None:
        new_complaints(loaded, path)
        make_session(path, here.options)

    saved = save(
        made, writing.output, layout=cast("Layout", writing.layout), check=None if writing.no_verify else check
    )
    here.say_plain(f"{after.quantised} weights in INT8; {before.compliant} followed 2:4, {after.compliant} do")
    here.say_plain(f"wrote {saved.path}")
    here.answer({
        "output": str(saved.path), "quantised": after.quantised,
        "compliant": {"before": before.compliant, "after": after.compliant},
    })  # fmt: skip


def _matching(view: GraphView, globs: Sequence[str]) -> tuple[str, ...]:
    """Names of nodes of the main graph that match. Raises SettingError for a glob that matches none."""
    from onnxprune.errors import SettingError

    names = [node.proto.name for node in view.nodes if node.scope.is_main and node.proto.name]
    found: list[str] = []
    for glob in globs:
        mine = [name for name in names if fnmatchcase(name, glob)]
        if not mine:
            raise SettingError(f"--ignore {glob}: no node matches", remedy="`onnxprune check-sparsity` lists nodes")
        found += mine
    return tuple(dict.fromkeys(found))
