"""`onnxprune cast`: float16 or bfloat16 where the model can take it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from typing import cast as typed

import typer

from onnxprune.cli.calibration import Calibrating
from onnxprune.cli.options import Analysis, Common, ModelPath, Writing
from onnxprune.cli.progress import samples_bar
from onnxprune.cli.reading import read_bind, read_input_shapes
from onnxprune.cli.scoring import Scoring, read_scoring
from onnxprune.cli.session import Session
from onnxprune.errors import ModelError, SettingError, VerificationError

if TYPE_CHECKING:
    from onnxprune.graph.bindings import Bindings
    from onnxprune.graph.layout import Layout
    from onnxprune.graph.model import Model
    from onnxprune.graph.shapes import Shapes
    from onnxprune.graph.view import GraphView
    from onnxprune.runtime.data import Data
    from onnxprune.runtime.precision.convert import Converted
    from onnxprune.runtime.precision.kinds import Kind

_TYPE, _STAYS = "Type", "What stays in float32"
_ROWS = 5
_HELD = 1 << 30  # bytes of samples that are kept in memory


def _option(panel: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, **settings)


@dataclass(frozen=True)
class Typing:
    """To which type, and what keeps its own."""

    to: Annotated[str, _option(_TYPE, "--to", metavar="TYPE", help="fp16 or bf16.")] = "fp16"
    keep_io: Annotated[bool, _option(_TYPE, "--keep-io", help="Inputs and outputs stay float32.")] = False
    ignore: Annotated[
        list[str] | None, _option(_STAYS, "--ignore", metavar="GLOB", help="Matching nodes (repeatable).")
    ] = None
    ignore_op: Annotated[
        list[str] | None, _option(_STAYS, "--ignore-op", metavar="OP", help="All nodes of an operator (repeatable).")
    ] = None
    headroom: Annotated[
        float, _option(_STAYS, "--headroom", min=1, metavar="F", help="Values that times F leave the type's range.")
    ] = 1.0
    overflow: Annotated[
        str,
        _option(_STAYS, "--overflow", metavar="DO", help="keep: what overflows stays; refuse: then write nothing."),
    ] = "keep"


def cast(
    model: ModelPath,
    typing: Typing,
    calibrating: Calibrating,
    scoring: Scoring,
    analysis: Analysis,
    writing: Writing,
    common: Common,
) -> None:
    """Convert a model to float16 or bfloat16, but for what needs float32.

    ONNX Runtime's converter does it. With --data, values that would overflow are found on the samples and stay in
    float32, and outputs and accuracy are shown before and after. No labels are needed. Weights that followed 2:4
    still do, which is checked.
    """
    from onnxprune.cli.writing import check_settings, check_targets
    from onnxprune.graph.bindings import bind_inputs
    from onnxprune.graph.io import load
    from onnxprune.graph.view import GraphView
    from onnxprune.runtime.precision.convert import convert
    from onnxprune.runtime.precision.kinds import KINDS
    from onnxprune.runtime.precision.prepare import prepared, types_of
    from onnxprune.sparsity.survival import surviving

    here = Session(common)
    if typing.to not in KINDS:
        raise SettingError(f"--to {typing.to}: unknown", remedy=f"give one of {', '.join(KINDS)}")
    if typing.overflow not in ("keep", "refuse"):
        raise SettingError(f"--overflow {typing.overflow}: unknown", remedy="give keep or refuse")
    if writing.output is None:
        raise SettingError("no output is given", remedy="give -o OUT.onnx")
    check_settings(writing)
    kind = KINDS[typing.to]
    loaded = load(model)
    check_targets(loaded, [writing.output])
    source, cut = prepared(loaded, kind)
    view = GraphView(source)
    bindings = bind_inputs(view, read_bind(analysis.bind), read_input_shapes(analysis.input_shapes))
    with here.step("Inferring types"):
        shapes = types_of(view, bindings)
    data = _data(here, view, calibrating)
    staying = _staying(here, view, shapes, kind, typing, calibrating, data)
    with here.step(f"Converting to {kind.spelled}"):
        made = convert(source, shapes, kind, staying, keep_io=typing.keep_io)
    surviving(loaded, made.model)
    found: dict[str, Any] = {
        "to": typing.to, "nodes": made.narrow, "float32": {view.nodes[i].title: why for i, why in staying.items()},
        "cut": list(cut), **_compared(here, loaded, view, bindings, made, scoring, calibrating, data),
    }  # fmt: skip
    with here.step(f"Writing {writing.output}"):
        found |= _write(here, loaded, made, kind, writing)
    _show(here, found, kind)
    here.answer(found)


def _data(here: Session, view: GraphView, given: Calibrating) -> Data | None:
    from onnxprune.runtime.data import open_data

    if given.data is None:
        here.warn("without --data only stored weights are held against the type's range, not what flows through")
        return None
    data = open_data(given.data, view, preprocess=given.preprocess, samples=given.samples, seed=here.seed)
    data.hold(_HELD)
    return data


def _staying(
    here: Session, view: GraphView, shapes: Shapes, kind: Kind, typing: Typing, given: Calibrating, data: Data | None
) -> dict[int, str]:
    """Nodes that stay in float32, and why. Raises SettingError where one would overflow and that is to be refused."""
    from onnxprune.runtime.precision.convert import blocked_operators
    from onnxprune.runtime.precision.ranges import largest_magnitudes
    from onnxprune.runtime.precision.staying import overflowing, staying_in_float32

    ranges: dict[str, float] = {}
    if data is not None:
        with samples_bar(here, "Measuring ranges", data.samples) as progress:
            ranges = largest_magnitudes(view, shapes, data, batch=given.batch, options=here.options, progress=progress)
    large = overflowing(view, shapes, kind, ranges, typing.headroom)
    if large and typing.overflow == "refuse":
        name, value = max(large.items(), key=lambda item: item[1])
        raise SettingError(
            f"{len(large)} values leave the range of {kind.spelled}, such as {name}, which reaches {value:.3g}",
            remedy="--overflow keep leaves them in float32; bf16 has float32's range",
        )
    return staying_in_float32(
        view, shapes, kind, large, blocked=blocked_operators(), ignore=typing.ignore or (),
        operators=typing.ignore_op or (),
    )  # fmt: skip


def _compared(
    here: Session, loaded: Model, view: GraphView, bindings: Bindings, made: Converted, scoring: Scoring,
    given: Calibrating, data: Data | None,
) -> dict[str, Any]:  # fmt: skip
    """Errors of the outputs, on made-up inputs without data; and the metric, where it has labels if it needs them."""
    from onnxprune.runtime.metrics import Judge
    from onnxprune.runtime.precision.compare import output_errors
    from onnxprune.runtime.synthetic import SyntheticData

    metric, reading = read_scoring(scoring)
    samples = data or SyntheticData(view, bindings, seed=here.seed)
    with here.step("Comparing"):
        errors = output_errors(loaded, made.rounding, samples, batch=given.batch, options=here.options)
        found: dict[str, Any] = {
            "on": samples.origin if data is not None else "made-up inputs", "errors": [asdict(e) for e in errors],
            "metric": None,
        }  # fmt: skip
        if data is not None and (metric.needs != "labels" or data.labels is not None):
            judge = Judge(loaded, data, metric, reading, options=here.options, batch=given.batch)
            found["metric"] = {
                "name": metric.name, "before": judge.dense.value, "after": judge.score(made.rounding).value,
                "samples": judge.dense.samples,
            }  # fmt: skip
    return found


def _write(here: Session, loaded: Model, made: Converted, kind: Kind, given: Writing) -> dict[str, Any]:
    """Write the model, held against onnx's checker and loaded in ONNX Runtime, where that has kernels for the type."""
    from onnxprune.check import new_complaints
    from onnxprune.cli.writing import bytes_of
    from onnxprune.graph.io import save
    from onnxprune.runtime.ort import make_session

    if given.output is None:
        raise ValueError("no output")
    ran: dict[str, Any] = {"loads": None, "why": None}

    def check(path: Path) -> None:
        new_complaints(loaded, path)
        try:
            make_session(path, here.options)
        except ModelError as error:
            if "Could not find an implementation" not in error.message:
                remedy = "Nothing was written; please report this model"
                raise VerificationError(error.message, remedy=remedy) from error
            ran.update(loads=False, why=f"{here.options.provider} has no kernels of {kind.spelled} for it")
        else:
            ran["loads"] = True

    layout = given.layout
    if layout == "keep" and loaded.data.files:
        layout = "single"  # all is in memory now, and there is no file that it was in
    saved = save(made.model, given.output, layout=typed("Layout", layout), check=None if given.no_verify else check)
    return {
        "output": str(saved.path), "data_files": [str(path) for path in saved.data_files], "onnxruntime": ran,
        "bytes": {"before": bytes_of(loaded.source_files), "after": bytes_of([saved.path, *saved.data_files])},
    }  # fmt: skip


def _show(here: Session, found: dict[str, Any], kind: Kind) -> None:
    from rich.table import Table

    from onnxprune.cli.validate import figure
    from onnxprune.display import amount

    reasons = Counter(found["float32"].values())
    here.say_plain(f"{found['nodes']} nodes in {kind.spelled}, {len(found['float32'])} stay in float32")
    shown = reasons.most_common(None if here.verbose else _ROWS)
    for why, count in shown:
        here.say_plain(f"  {count}: {why}")
    if len(shown) < len(reasons):
        here.say_plain(f"  and {len(reasons) - len(shown)} further reasons; -v shows all")
    if found["cut"]:
        here.say_plain(f"cut to the type's range, as masks are: {', '.join(found['cut'])}")
    table = Table("output", "relative error", "largest", "overflows", title=f"On {found['on']}", title_justify="left")
    for error in found["errors"]:
        table.add_row(error["name"], f"{error['relative']:.2e}", f"{error['largest']:.3g}", str(error["broken"]))
    here.say(table)
    if found["metric"] is not None:
        name, before, after = (found["metric"][key] for key in ("name", "before", "after"))
        here.say_plain(f"{name}: {figure(before)} before, {figure(after)} now, on {found['metric']['samples']} samples")
    here.say_plain(f"{amount(found['bytes']['before'])}B before, {amount(found['bytes']['after'])}B now")
    ran = found["onnxruntime"]
    how = {None: "not loaded in ONNX Runtime", True: "loaded in ONNX Runtime", False: f"not loaded: {ran['why']}"}
    here.say_plain(f"wrote {found['output']}, {how[ran['loads']]}")
