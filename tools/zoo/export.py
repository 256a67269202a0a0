"""One architecture by one exporter. make_zoo.py runs it in a process of its own: one that hangs costs a file.

Nothing is believed: the file is run in ONNX Runtime against torch, at the example's sizes and at others.
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
import time
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from zoo.catalogue import catalogue
from zoo.entry import Entry
from zoo.limits import TimeIsUp, processor_seconds

Arguments = tuple[Tensor, ...]


class UnusableExport(Exception):
    """The exporter wrote something that a test cannot use."""


def prepare(entry: Entry) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The model with its final weights, and example inputs; the same for both exporters and for peers."""
    seed = zlib.crc32(entry.name.removesuffix("_opset23").encode())
    torch.manual_seed(seed)
    # its fused kernel is one operator that the older exporter does not know
    torch.backends.mha.set_fastpath_enabled(False)
    model: nn.Module = entry.build()
    from zoo.randomise import randomise

    generator = torch.Generator().manual_seed(seed)
    calibration = tuple(i.sample(generator, {"batch": 6}) for i in entry.inputs)
    randomise(model, calibration, seed)
    return model, tuple(i.sample(generator) for i in entry.inputs)


def outputs_of(answer: Any) -> list[Tensor]:
    return [answer] if isinstance(answer, Tensor) else list(answer)


def health(outputs: Sequence[Tensor]) -> dict[str, float]:
    """Standard deviation over everything, and over the batch: near zero, the input would not matter."""
    for output in outputs:
        if not bool(output.isfinite().all()):
            raise UnusableExport("the model's output is not finite")
    std = min(float(o.std()) for o in outputs)
    across = min(float(o.std(dim=0).mean()) for o in outputs)
    if std < 1e-4 or across < 1e-6:
        raise UnusableExport(f"the model's output hardly varies: std {std:.2g}, over the batch {across:.2g}")
    return {"output_std": std, "output_std_over_batch": across}


def _axes(entry: Entry) -> dict[str, dict[int, str]]:
    return {i.name: dict(i.dynamic) for i in entry.inputs}


def export_ts(entry: Entry, model: nn.Module, args: Arguments, path: Path, outputs: list[str], dynamic: bool) -> None:
    """torch's older exporter. PRESERVE on a model in evaluation mode leaves BatchNorm alone."""
    # The output's batch axis is named too where the input has one: older consumers read it off the file.
    shared = {name: {0: "batch"} for name in outputs} if dynamic and _has_batch(entry) else {}
    mode = torch.onnx.TrainingMode.EVAL if entry.fuse_batch_norm else torch.onnx.TrainingMode.PRESERVE
    torch.onnx.export(
        model, args, str(path), dynamo=False,
        input_names=[i.name for i in entry.inputs], output_names=outputs,
        dynamic_axes={**_axes(entry), **shared} if dynamic else None, training=mode,
        do_constant_folding=entry.fuse_batch_norm,
    )  # fmt: skip


def _has_batch(entry: Entry) -> bool:
    return all(i.dynamic.get(0) == "batch" for i in entry.inputs)


def export_dynamo(
    entry: Entry, model: nn.Module, args: Arguments, path: Path, outputs: list[str], dynamic: bool
) -> None:
    """torch's current exporter; one file, so the weights stay inside."""
    shapes: Any = None
    if dynamic:
        names = {name for i in entry.inputs for name in i.dynamic.values()}
        dims = {name: torch.export.Dim(name, min=2, max=1024) for name in names}
        shapes = tuple({axis: dims[name] for axis, name in i.dynamic.items()} for i in entry.inputs)
        kinds = [p.kind for p in inspect.signature(model.forward).parameters.values()]
        if kinds == [inspect.Parameter.VAR_POSITIONAL]:
            shapes = (shapes,)
    torch.onnx.export(
        model, args, str(path), dynamo=True, external_data=False, dynamic_shapes=shapes,
        opset_version=entry.opset, input_names=[i.name for i in entry.inputs], output_names=outputs,
        optimize=entry.fuse_batch_norm, verbose=False,
    )  # fmt: skip


EXPORT = {"ts": export_ts, "dynamo": export_dynamo}


def _graph_dims(model: onnx.ModelProto) -> dict[str, list[int | str | None]]:
    def dims(value: onnx.ValueInfoProto) -> list[int | str | None]:
        shape = value.type.tensor_type.shape.dim
        return [d.dim_param or (d.dim_value if d.HasField("dim_value") else None) for d in shape]

    return {value.name: dims(value) for value in model.graph.input}


def _largest_error(path: Path, names: Sequence[str], args: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest difference from torch, as a share of each output's scale."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    wanted = {i.name for i in session.get_inputs()}  # an exporter drops inputs that are not used
    feed = {name: arg.numpy() for name, arg in zip(names, args, strict=True) if name in wanted}
    worst = 0.0
    for found, right in zip(session.run(None, feed), expected, strict=True):
        difference = (torch.from_numpy(found) - right).abs().max()
        worst = max(worst, float(difference / right.abs().max()))
    return worst


def _runs_at_other_sizes(entry: Entry, model: nn.Module, path: Path) -> bool:
    sizes = {name: size + 1 for i in entry.inputs for a, name in i.dynamic.items() for size in [i.shape[a]]}
    if not sizes:
        return False
    args = [i.sample(torch.Generator().manual_seed(1), sizes) for i in entry.inputs]
    try:
        expected = outputs_of(model(*args))
        return _largest_error(path, [i.name for i in entry.inputs], args, expected) < 1e-2
    except Exception as error:  # noqa: BLE001  whatever stops it, the answer is the same: not at these sizes
        print(f"other sizes: {error}", file=sys.stderr)
        return False


def export(entry: Entry, exporter: str, path: Path) -> dict[str, Any]:
    """Writes the file and returns its record; raises where there is no usable file."""
    started = time.monotonic()
    model, args = prepare(entry)
    with torch.no_grad():
        expected = outputs_of(model(*args))
        record: dict[str, Any] = health(expected)
        outputs = ["output"] if len(expected) == 1 else [f"output_{i}" for i in range(len(expected))]
        unfinished = path.with_name(f".{path.name}.partial")
        notes = []
        for dynamic in (True, False):
            try:
                EXPORT[exporter](entry, model, args, unfinished, outputs, dynamic)
                error = _largest_error(unfinished, [i.name for i in entry.inputs], args, expected)
                if error > 1e-2:
                    raise UnusableExport(f"ONNX Runtime and torch differ by {error:.2g} of the output's scale")
                if not dynamic or _runs_at_other_sizes(entry, model, unfinished):
                    break
                notes.append("the dynamic export does not run at other sizes")
            # exporters raise anything, and the static export may still work
            except Exception as problem:
                if not dynamic:
                    raise
                notes.append(f"no dynamic export: {last_line(str(problem))}")
    proto = onnx.load(str(unfinished))
    dims = _graph_dims(proto)
    record |= {
        "arch": entry.name, "source": entry.source, "family": entry.family, "exporter": exporter,
        "inputs": [
            {
                "name": i.name, "shape": list(i.shape), "dims": dims[i.name], "dtype": i.dtype,
                "fill": i.fill, "high": i.high,
            }
            for i in entry.inputs if i.name in dims
        ],
        "outputs": [o.name for o in proto.graph.output],
        "dynamic": sorted({d for shape in dims.values() for d in shape if isinstance(d, str)}),
        "notes": notes,
        "parameters": sum(p.numel() for p in model.parameters()),
        "nodes": len(proto.graph.node),
        "bytes": unfinished.stat().st_size,
        "opset": max(o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")),
        "torch": torch.__version__,
        "error_to_torch": error,
        "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip
    os.replace(unfinished, path)
    return record


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def export_named(name: str, exporter: str, target: str, limit: float) -> dict[str, Any]:
    """The record of what was written, or `why` there is none within `limit` seconds of processor time."""
    warnings.filterwarnings("ignore")
    logging.disable()
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115  the process ends with it
    entry = next(e for e in catalogue() if e.name == name)
    try:
        with processor_seconds(limit):
            return export(entry, exporter, Path(target))
    except TimeIsUp:
        return {"why": f"no result within {limit:.0f} s of processor time"}
    # Exporters raise anything.
    except Exception as error:  # noqa: BLE001
        return {"why": f"{type(error).__name__}: {last_line(str(error))}"}
