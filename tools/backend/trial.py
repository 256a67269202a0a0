"""Prune one model whose inputs and outputs may shrink, and compare it with the masked dense model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator

from onnxprune.analyse import analyse
from onnxprune.check import mask_classes
from onnxprune.coupling.coupling import Coupling
from onnxprune.edit import edit
from onnxprune.graph.model import Model

TOLERANCE = {"d": 1e-4, "f": 1e-4, "e": 1e-2}  # of an output's scale, by dtype
BAD = ("crash", "invalid", "does not run", "not equal")
Feeds = dict[str, Any]
Run = Callable[[onnx.ModelProto, Feeds], list[Any]]


@dataclass(frozen=True)
class Outcome:
    """equal, or one of BAD; `mixed`: pruned and runs, over units of statistics; `analysed`: nothing can go, or no
    engine runs the dense model."""

    status: str
    remark: str = ""


def try_form(model: onnx.ModelProto, feeds: Feeds) -> Outcome:
    """Prune half of each group: exact groups alone and compared, then all of them."""
    try:
        borders = [i.name for i in (*model.graph.input, *model.graph.output)]
        coupling = analyse(model, allow_io_change=borders, input_shapes=_shapes(model, feeds))
        if not coupling.groups:
            return Outcome("analysed", "nothing can go")
        run = _engine(model, feeds)
        if run is None:
            return Outcome("analysed", "no engine runs it")
        exact = [g.index for g in coupling.groups if g.exact]
        outcome = _prune(coupling, exact, feeds, run, compare=True) if exact else None
        if outcome is not None and outcome.status != "equal":
            return outcome
        if len(exact) < len(coupling.groups):
            mixed = _prune(coupling, [g.index for g in coupling.groups], feeds, run, compare=False)
            return outcome if outcome is not None and mixed.status not in BAD else mixed
        return outcome or Outcome("analysed")
    except Exception as error:  # noqa: BLE001 - a crash is what is looked for
        return Outcome("crash", f"{type(error).__name__}: {error}")


def _shapes(model: onnx.ModelProto, feeds: Feeds) -> dict[str, tuple[int, ...]]:
    """Of what is fed; some cases declare another rank than they feed."""
    ranks = {i.name: len(i.type.tensor_type.shape.dim) for i in model.graph.input if i.type.HasField("tensor_type")}
    return {
        name: np.shape(feeds[name]) for name, rank in ranks.items() if name in feeds and np.ndim(feeds[name]) == rank
    }


def _prune(coupling: Coupling, groups: list[int], feeds: Feeds, run: Run, *, compare: bool) -> Outcome:
    rng = np.random.default_rng(0)
    sizes = {index: coupling.groups[index].size for index in groups}
    kept = {index: np.sort(rng.permutation(size)[: (size + 1) // 2]) for index, size in sizes.items()}
    removed = coupling.removed_classes(kept)
    pruned = edit(coupling, removed).model
    if (said := _complaint(pruned)) and not _complaint(coupling.view.model):
        return Outcome("invalid", said)
    smaller = {name: _kept_part(coupling, removed, name, array) for name, array in feeds.items()}
    try:
        found = run(pruned.to_proto(external=True), smaller)
    except Exception as error:  # noqa: BLE001 - whatever an engine raises is the result
        return Outcome("does not run", str(error))
    if not compare:
        return Outcome("mixed")
    whole = run(mask_classes(coupling, removed).to_proto(external=True), feeds)
    for name, x, y in zip(coupling.view.outputs, found, whole, strict=True):
        if name in coupling.shapes.arithmetic:
            continue  # the size of an axis that got shorter
        gap = _gap(x, _kept_part(coupling, removed, name, y))
        if gap > (TOLERANCE.get(x.dtype.char, 0.0) if isinstance(x, np.ndarray) else min(TOLERANCE.values())):
            return Outcome("not equal", f"{name}: {gap:.2g} of its scale")
    return Outcome("equal")


def _kept_part(coupling: Coupling, removed: np.ndarray, name: str, value: Any) -> Any:
    """What stays of an input or output of the dense model."""
    if not isinstance(value, np.ndarray):
        return value
    for axis in range(value.ndim):
        slot = coupling.atoms.slot_at((name, -1, -1), axis)
        if slot is not None:
            value = np.take(value, coupling.kept_of_slot(slot, removed), axis)
    return value


def _gap(x: Any, y: Any) -> float:
    """The largest difference as a share of y's largest magnitude; infinite for other shapes, or other values that are
    not numbers."""
    if isinstance(x, list):
        return max((_gap(a, b) for a, b in zip(x, y, strict=True)), default=0.0)
    x, y = np.asarray(x), np.asarray(y)
    if x.shape != y.shape:
        return float("inf")
    if x.dtype.kind in "OSU":
        return 0.0 if np.array_equal(x, y) else float("inf")
    a, b = np.atleast_1d(x.astype(np.float64)), np.atleast_1d(y.astype(np.float64))
    scale = float(np.abs(b[np.isfinite(b)]).max(initial=0)) or 1.0
    with np.errstate(invalid="ignore"):
        gap = np.abs(a - b)
    gap[(a == b) | (np.isnan(a) & np.isnan(b))] = 0
    gap[np.isnan(gap)] = np.inf
    return float(gap.max(initial=0)) / scale


def _engine(model: onnx.ModelProto, feeds: Feeds) -> Run | None:
    """The first of the two engines that runs the dense model."""
    for run in (_in_runtime, _in_reference):
        try:
            run(model, feeds)
        except Exception:  # noqa: BLE001 - either engine has its own ways to say that it does not know an operator
            continue
        return run
    return None


def _in_runtime(model: onnx.ModelProto, feeds: Feeds) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def _in_reference(model: onnx.ModelProto, feeds: Feeds) -> list[Any]:
    return ReferenceEvaluator(model).run(None, feeds)


def _complaint(model: Model) -> str:
    """What onnx's checker says, "" for nothing."""
    try:
        onnx.checker.check_model(model.to_proto(external=True))
    except (onnx.checker.ValidationError, ValueError) as error:
        return str(error).strip().splitlines()[0]
    return ""
