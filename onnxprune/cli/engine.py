"""`onnxprune engine`: a TensorRT engine through Polygraphy, or the commands for a machine that has TensorRT."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from onnxprune.cli.options import Common, ModelPath

_BUILD, _OUTPUT = "Build", "Output"


def _option(panel: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, **settings)


def engine(
    model: ModelPath,
    common: Common,
    output: Annotated[
        Path | None, _option(_OUTPUT, "-o", "--output", metavar="ENGINE", help="The engine to write.")
    ] = None,
    emit_script: Annotated[
        Path | None,
        _option(_OUTPUT, "--emit-script", metavar="FILE.sh", help="Write commands and FILE.py instead; build nothing."),
    ] = None,
    tensorrt: Annotated[int, _option(_BUILD, "--tensorrt", min=10, metavar="V", help="Its major version.")] = 11,
    precision: Annotated[
        str, _option(_BUILD, "--precision", metavar="P", help="fp32, fp16, bf16 or int8; a flag of TensorRT 10.")
    ] = "fp32",
    no_sparse: Annotated[bool, _option(_BUILD, "--no-sparse", help="No sparse kernels.")] = False,
    shape: Annotated[
        list[str] | None,
        _option(
            _BUILD, "--shape", metavar="INPUT:[MIN]:[OPT]:[MAX]", help="Of an input with dynamic sizes (repeatable)."
        ),
    ] = None,
    workspace: Annotated[int | None, _option(_BUILD, "--workspace", min=1, metavar="MIB", help="Memory limit.")] = None,
    timing_cache: Annotated[
        Path | None, _option(_BUILD, "--timing-cache", metavar="FILE", help="Kernel timings, read and kept there.")
    ] = None,
) -> None:
    """Build a TensorRT engine, or write the commands for where TensorRT is.

    The engine may use sparse kernels, and is timed beside one that may not and beside ONNX Runtime. Without TensorRT or
    an NVIDIA GPU, --emit-script writes the exact trtexec and polygraphy commands, and a Python script that does the
    same, for the machine that has them.
    """
    from onnxprune.cli.session import Session
    from onnxprune.cli.writing import check_targets
    from onnxprune.errors import SettingError
    from onnxprune.graph.io import load
    from onnxprune.graph.view import GraphView
    from onnxprune.runtime.trt import Engine, build, python_script, read_shapes, shell_script

    here = Session(common)
    if output is None:
        raise SettingError("no output is given", remedy="give -o NAME.engine")
    loaded = load(model)
    view = GraphView(loaded)
    shapes = read_shapes(shape or [])
    _check_shapes(view, shapes)
    wanted = Engine(
        str(model), str(output), tensorrt, precision, not no_sparse, shapes, workspace,
        None if timing_cache is None else str(timing_cache),
    )  # fmt: skip
    for warning in _doubts(view, wanted):
        here.warn(warning)
    if emit_script is None:
        check_targets(loaded, [output])
        with here.step(f"Building {output}"):
            found = build(wanted)
        _show(here, found)
        here.answer(found)
        return
    script = emit_script.with_suffix(".py")
    if script == emit_script:
        raise SettingError(f"--emit-script {emit_script}: a Python script of that name comes with it", remedy="FILE.sh")
    check_targets(loaded, [emit_script, script])
    from onnxprune.graph.atomic import AtomicFiles

    with AtomicFiles() as files:
        files.create(emit_script).write(shell_script(wanted).encode())
        files.create(script).write(python_script(wanted).encode())
    here.say_plain(f"wrote {emit_script} (trtexec and polygraphy) and {script} (Polygraphy's API); nothing was built")
    here.answer({"shell": str(emit_script), "python": str(script)})


def _check_shapes(view: Any, shapes: dict[str, Any]) -> None:
    from onnxprune.errors import SettingError
    from onnxprune.runtime.inputs import input_specs

    specs = input_specs(view)
    for name, (smallest, _, largest) in shapes.items():
        if name not in specs:
            raise SettingError(f"--shape {name}: no such input", remedy=f"there are {', '.join(specs)}")
        if any(len(part) != len(specs[name].dims) for part in (smallest, largest)):
            raise SettingError(
                f"--shape {name}: the input has {len(specs[name].dims)} dimensions", remedy=str(specs[name])
            )
    for name, spec in specs.items():
        if name not in shapes and any(not isinstance(size, int) for size in spec.dims):
            raise SettingError(f"the input {spec} has dynamic sizes", remedy=f"give --shape '{name}:[MIN]:[OPT]:[MAX]'")


def _doubts(view: Any, wanted: Any) -> list[str]:
    """Why sparse kernels are not to be expected."""
    from onnxprune.sparsity.check import check
    from onnxprune.sparsity.masking import TWO_OF_FOUR
    from onnxprune.sparsity.weights import find_weights

    if not wanted.sparse:
        return []
    version = 10 if wanted.precision != "fp32" else 11  # fp32 without a flag for less gains nothing in either
    rows = check(view, find_weights(view), TWO_OF_FOUR, tensorrt=version).rows
    fit = [row for row in rows if row.compliant and row.eligible]
    if not fit:
        return ["no weight follows 2:4 and is eligible: sparse kernels will not be used (`onnxprune sparsify`)"]
    if not any(row.pays for row in fit):
        reasons = sorted({row.why_not_paying.split(" (")[0].split(", ")[0] for row in fit})
        remedy = " (`onnxprune cast` makes it float16)" if "float32" in reasons else ""
        return [f"{len(fit)} weights follow 2:4, and none is likely to pay: {', '.join(reasons)}{remedy}"]
    return []


def _show(here: Any, found: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(title=f"TensorRT {found['tensorrt']}", title_justify="left")
    for column in ("", "ms", "worst relative error"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row("ONNX Runtime, CPU", f"{found['onnxruntime_cpu_ms']:.3f}", "")
    for what in ("dense", "sparse"):
        if what in found:
            table.add_row(f"engine, {what}", f"{found[what]['ms']:.3f}", f"{found[what]['worst_relative_error']:.2e}")
    here.say(table)
    here.say_plain(f"wrote {found['engine']}")
