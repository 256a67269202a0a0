"""TensorRT from outside: commands for the machine that has it, and the build itself where this one does.

TensorRT 10 takes the precision from flags (or a typed graph on request), TensorRT 11 from the graph's types alone. The
build is one script, runtime/trt_build.py, which is also what `--emit-script` writes: it needs polygraphy and tensorrt.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from onnxprune.errors import ModelError, RuntimeMissingError, SettingError

STRONGLY_TYPED = 11
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
Range = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Smallest, usual and largest shape of an input."""


@dataclass(frozen=True)
class Engine:
    """How an engine is built. `precision` is a flag of TensorRT 10; from 11 on the graph's types decide.

    `workspace` in MiB, None for all of the device's memory.
    """

    model: str
    engine: str
    tensorrt: int = STRONGLY_TYPED
    precision: str = "fp32"
    sparse: bool = True
    shapes: Mapping[str, Range] = field(default_factory=dict)
    workspace: int | None = None
    timing_cache: str | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise SettingError(f"--precision {self.precision}: unknown", remedy=f"give one of {', '.join(PRECISIONS)}")
        if self.tensorrt >= STRONGLY_TYPED and self.precision != "fp32":
            raise SettingError(
                f"--precision {self.precision}: TensorRT {self.tensorrt} takes precision from the graph's types",
                remedy="`onnxprune cast` or `onnxprune quantize` the model, or give --tensorrt 10",
            )


def trtexec_command(wanted: Engine) -> list[str]:
    """The build with trtexec; `--verbose` makes the log say which layers got sparse kernels."""
    found = ["trtexec", f"--onnx={wanted.model}", f"--saveEngine={wanted.engine}"]
    if wanted.sparse:
        found.append("--sparsity=enable")
    if wanted.precision != "fp32":
        found.append(f"--{wanted.precision}")
    for index, what in enumerate(("min", "opt", "max")):
        if wanted.shapes:
            parts = [f"{name}:{'x'.join(map(str, shape[index]))}" for name, shape in wanted.shapes.items()]
            found.append(f"--{what}Shapes={','.join(parts)}")
    if wanted.workspace is not None:
        found.append(f"--memPoolSize=workspace:{wanted.workspace}M")
    if wanted.timing_cache is not None:
        found.append(f"--timingCacheFile={wanted.timing_cache}")
    return [*found, "--profilingVerbosity=detailed", f"--exportLayerInfo={wanted.engine}.layers.json", "--verbose"]


def polygraphy_commands(wanted: Engine) -> list[list[str]]:
    """The build, the engine's layers, and its outputs beside ONNX Runtime's, with Polygraphy."""
    build: list[str] = []
    if wanted.sparse:
        build.append("--sparse-weights")
    if wanted.precision != "fp32":
        build.append(f"--{wanted.precision}")
    for index, what in enumerate(("min", "opt", "max")):
        if wanted.shapes:
            shapes = [f"{name}:[{','.join(map(str, s[index]))}]" for name, s in wanted.shapes.items()]
            build += [f"--trt-{what}-shapes", *shapes]
    if wanted.workspace is not None:
        build += ["--pool-limit", f"workspace:{wanted.workspace}M"]
    if wanted.timing_cache is not None:
        build += ["--load-timing-cache", wanted.timing_cache, "--save-timing-cache", wanted.timing_cache]
    build += ["--profiling-verbosity", "detailed"]
    inputs = ["--input-shapes", *(f"{n}:[{','.join(map(str, s[1]))}]" for n, s in wanted.shapes.items())]
    return [
        ["polygraphy", "convert", wanted.model, *build, "-o", wanted.engine],
        ["polygraphy", "inspect", "model", wanted.engine, "--model-type", "engine", "--show", "layers", "attrs"],
        ["polygraphy", "run", wanted.model, "--onnxrt", "--trt", *build, *(inputs if wanted.shapes else [])],
    ]  # fmt: skip


def shell_script(wanted: Engine) -> str:
    """All commands as a script; trtexec's log goes to a file that `check-sparsity --build-log` reads."""
    log = f"{wanted.engine}.log"
    lines = [
        "#!/bin/sh",
        f"# TensorRT {wanted.tensorrt}. Then: onnxprune check-sparsity {shlex.quote(wanted.model)} "
        f"--tensorrt {wanted.tensorrt} --build-log {shlex.quote(log)}",
        "set -e",
        f"{shlex.join(trtexec_command(wanted))} > {shlex.quote(log)} 2>&1 || {{ tail {shlex.quote(log)}; exit 1; }}",
        "",
        "# The same with Polygraphy: the engine, its layers, and its outputs beside ONNX Runtime's.",
        *map(shlex.join, polygraphy_commands(wanted)),
    ]
    return "\n".join(lines) + "\n"


def python_script(wanted: Engine) -> str:
    """runtime/trt_build.py with these settings as its own: it builds, compares and times, and prints JSON."""
    source = Path(__file__).with_name("trt_build.py").read_text()
    return source.replace("SETTINGS: dict[str, Any] = {}", f"SETTINGS: dict[str, Any] = {_literal(wanted)}")


def _literal(wanted: Engine) -> str:
    """The settings as JSON that is Python too."""
    return f"json.loads({json.dumps(asdict(wanted))!r})"


def missing() -> str:
    """What an engine cannot be built without here, "" if nothing."""
    absent = [name for name in ("polygraphy", "tensorrt", "onnxruntime") if find_spec(name) is None]
    return " and ".join(absent)


def build(wanted: Engine) -> dict[str, Any]:
    """Build the engine here and measure it, in a process of its own. Gives what the script prints.

    Raises RuntimeMissingError where a package is missing, ModelError where the build fails.
    """
    absent = missing()
    if absent:
        raise RuntimeMissingError(
            f"an engine cannot be built here: {absent} not installed",
            remedy="--emit-script writes the commands for a machine that has them",
        )
    ran = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("trt_build.py")), json.dumps(asdict(wanted))],
        capture_output=True, encoding="utf-8", errors="replace", check=False,
    )  # fmt: skip
    if ran.returncode:
        last = (ran.stderr.strip().splitlines() or [f"exit status {ran.returncode}"])[-1]
        raise ModelError(
            f"TensorRT does not build {wanted.model}: {last}",
            remedy="is there an NVIDIA GPU here? `--emit-script` writes the commands for another machine",
        )
    found: dict[str, Any] = json.loads(ran.stdout.strip().splitlines()[-1])
    return found


def read_shapes(texts: Sequence[str]) -> dict[str, Range]:
    """`["x:[1,3,224,224]:[8,3,224,224]:[16,3,224,224]"]`, or one shape for all three. Raises SettingError."""
    found: dict[str, Range] = {}
    for text in texts:
        name, _, rest = text.partition(":[")
        parts = rest.rstrip("]").split("]:[") if rest else []
        try:
            shapes = [tuple(int(size) for size in part.split(",") if size.strip()) for part in parts]
        except ValueError:
            shapes = []
        if not name or len(shapes) not in (1, 3) or any(size < 1 for shape in shapes for size in shape):
            raise SettingError(
                f"--shape {text}: not of the form INPUT:[SIZES] or INPUT:[MIN]:[OPT]:[MAX]",
                remedy="for example --shape x:[1,3,224,224]:[8,3,224,224]:[16,3,224,224]",
            )
        found[name] = (shapes[0], shapes[len(shapes) // 2], shapes[-1])
    return found
