"""Prune one file and check it against its masked dense model. Run by zoo_report.py.

Quantised files: both models are run with ONNX Runtime's own fusions of QuantizeLinear and DequantizeLinear into integer
operators, for int8 activations too (`session.qdqisint8allowed`, which the CPU build leaves off), and without quantising
at load time what is stored in floats (its range is another one when weights are gone). Integer sums do not depend on
their order, so what is exact is equal to the bit wherever the runtime computes in integers. Where it
computes in floats (a kind it does not fuse, or fuses in one model only), sums over fewer terms round in another order,
a number that lies on the border of two steps may fall to the other side, and later layers may see that. `steps`
is the largest difference in quantisation steps of the output it occurs in, `off_by_a_step` the share of elements that
differ at all. The step is the scale of the DequantizeLinear that the output comes from, through operators that only
move elements; of an output that is left in floats, a 255th of the range of the dense output. With dynamic ranges both
models are run without fusions beyond the runtime's basic level: masks stand between the operators that it would fuse,
so that it would fuse others in the masked model, which round otherwise. A dense model that does not run in integers, as
the fused operator refuses how a weight is quantised, is compared as the runtime takes it by default.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_errors
from zoo.limits import TimeIsUp, processor_seconds

from onnxprune.analyse import analyse
from onnxprune.check import mask_classes
from onnxprune.coupling.coupling import Coupling
from onnxprune.edit import edit, rearrange
from onnxprune.edit.selection import orders_of, removed_classes_of
from onnxprune.graph.model import Model
from onnxprune.graph.view import GraphView
from onnxprune.importance import score
from onnxprune.plan import plan
from onnxprune.runtime.feeds import random_feeds
from onnxprune.runtime.measure import measure_shapes
from onnxprune.types import Budget

SELECTING = ("NonMaxSuppression", "TopK")  # a rounding error before them changes what comes after
MOVING = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather", "Identity"})
QUANTISED = frozenset(
    {"DequantizeLinear", "DynamicQuantizeLinear", "MatMulNBits", "GatherBlockQuantized", "DynamicQuantizeLSTM"}
)
LEVELS = 255
NOT_IN_THE_FILE = ["WeightBiasQuantization"]


def compared(view: GraphView) -> list[str]:
    """Values to compare: the outputs, or what detectors feed into their selection."""
    before = [name for node in view.nodes if node.op in SELECTING for name in node.inputs[:2] if name in view.producer]
    return list(dict.fromkeys(before)) or list(view.outputs)


def session_of(proto: onnx.ModelProto, integers: bool) -> onnxruntime.InferenceSession:
    """A session that computes in integers whatever can be, if asked to, and alike in a masked and a pruned model."""
    options = onnxruntime.SessionOptions()
    if any(node.op_type == "DynamicQuantizeLinear" for node in proto.graph.node):
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    if integers:
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"], disabled_optimizers=NOT_IN_THE_FILE
    )


def outputs(model: Model, names: list[str], feeds: dict[str, np.ndarray], integers: bool = True) -> list[np.ndarray]:
    """The named values of `model` on `feeds`, computed in integers where that can be."""
    proto = model.to_proto(external=True)
    known = {o.name for o in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    return session_of(proto, integers).run(names, feeds)


def runs_in_integers(dense: Model, names: list[str], feeds: dict[str, np.ndarray]) -> bool:
    """Whether the dense model does; the runtime also fuses what its integer operators then refuse."""
    try:
        outputs(dense, names, feeds)
    except onnxruntime_errors.Fail:
        return False
    return True


def step(view: GraphView, name: str, dense: np.ndarray) -> float:
    """The quantisation step of a value, see above."""
    made = view.producer.get(name)
    while made is not None and made.op in MOVING:
        made = view.producer.get(made.inputs[0])
    if made is not None and made.op == "DequantizeLinear":
        source = view.identity_source(made.inputs[1])
        if source in view.constants and (scale := view.model.array(view.constants[source])).size == 1:
            return float(scale.reshape(-1)[0])
    finite = dense[np.isfinite(dense)]
    return float(finite.max() - finite.min()) / LEVELS if finite.size else 0.0


def in_steps(
    view: GraphView, names: list[str], a: list[np.ndarray], b: list[np.ndarray], dense: list[np.ndarray]
) -> tuple[float, float]:
    """The largest difference in steps, and the share of elements that differ by more than a float's rounding."""
    worst, differing, count = 0.0, 0, 0
    for name, x, y, whole in zip(names, a, b, dense, strict=True):
        if not x.size or x.dtype.kind != "f" or x.shape != y.shape:
            continue
        one = step(view, name, whole)
        with np.errstate(invalid="ignore"):
            gap = np.abs(x.astype(np.float64) - y.astype(np.float64))
        gap[(x == y) | (np.isnan(x) & np.isnan(y))] = 0
        gap[np.isnan(gap)] = np.inf
        worst = max(worst, float(gap.max()) / one if one else 0.0)
        differing += int((gap > one / LEVELS).sum())
        count += x.size
    return worst, differing / max(count, 1)


def distance(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    """The largest difference, as a share of the largest magnitude of `b`'s value."""
    worst = 0.0
    for x, y in zip(a, b, strict=True):
        if x.shape != y.shape:
            return float("inf")
        if x.size and x.dtype.kind == "f":
            scale = float(np.abs(y[np.isfinite(y)]).max(initial=0)) or 1.0
            with np.errstate(invalid="ignore"):
                gap = np.abs(x.astype(np.float64) - y.astype(np.float64))
            gap[(x == y) | (np.isnan(x) & np.isnan(y))] = 0
            worst = max(worst, float(gap.max()) / scale)
        elif x.size:
            worst = max(worst, float(np.abs(x.astype(np.float64) - y.astype(np.float64)).max()))
    return worst


def check(path: Path, ratio: float, exact_only: bool, shapes: dict[str, list[int]]) -> dict[str, Any]:
    """Prune `path` at `ratio`; what came of it."""
    started = time.perf_counter()
    coupling = analyse(path, measure=measure_shapes, input_shapes=shapes)
    if not any(g.exact or not exact_only for g in coupling.groups):
        return {"status": "unchanged", "left": 1.0, "why": reasons(coupling)}
    chosen = plan(coupling, score(coupling), Budget(ratio=ratio), exact_only=exact_only)
    removed = removed_classes_of(coupling, chosen)
    orders = orders_of(coupling, chosen)
    edited = edit(coupling, removed, orders).model
    seconds = time.perf_counter() - started
    before, after = coupling.cost(), coupling.cost(removed)
    found: dict[str, Any] = {
        "status": "pruned" if removed.any() else "unchanged",
        "left": after.parameters / before.parameters,
        "macs": after.macs / before.macs if before.macs else 1.0,
        "groups": len(coupling.groups),
        "seconds": seconds,
        "why": reasons(coupling),
    }
    dense_says = complaint(coupling.view.model)
    says = complaint(edited)
    if says is not None and dense_says is None:
        return {**found, "status": "invalid", "error": says}
    feeds = random_feeds(coupling.view.inputs, coupling.bindings.shapes)
    names = compared(coupling.view)
    quantised = any(node.op in QUANTISED for node in coupling.view.nodes)
    integers = not quantised or runs_in_integers(coupling.view.model, names, feeds)
    try:
        pruned = outputs(edited, names, feeds, integers)
    except Exception as error:  # noqa: BLE001 - whatever the runtime raises is the result
        return {**found, "status": "does not run", "error": str(error)[:300]}
    if exact_only and removed.any():
        masked = outputs(mask_classes(coupling, removed, orders), names, feeds, integers)
        dense = outputs(coupling.view.model, names, feeds, integers)
        found["error_of_scale"] = distance(pruned, masked)
        if orders is not None:  # bringing members into another order alone changes nothing
            found["rearranged"] = distance(outputs(rearrange(coupling, orders), names, feeds, integers), dense)
        found["masked_differs"] = distance(dense, masked)
        if quantised:
            found["steps"], found["off_by_a_step"] = in_steps(coupling.view, names, pruned, masked, dense)
    return found


def complaint(model: Model) -> str | None:
    """What onnx's checker says, None for nothing."""
    try:
        onnx.checker.check_model(model.to_proto(external=True))
    except (onnx.checker.ValidationError, ValueError) as error:
        return str(error).strip().splitlines()[0]
    return None


def reasons(coupling: Coupling) -> list[tuple[str, int]]:
    """The reasons that freeze most parameters, with how many axes they freeze."""
    counted = Counter(r.why.split(" [")[0] for r in coupling.refusals if r.why != "kernel tap")
    return counted.most_common(3)


def check_within(
    path: str, ratio: float, exact_only: bool, shapes: dict[str, list[int]], limit: float
) -> dict[str, Any]:
    """`check` under a limit of processor time; what it raises is the result."""
    try:
        with processor_seconds(limit):
            return check(Path(path), ratio, exact_only, shapes)
    except TimeIsUp:
        return {"status": "timeout"}
    except Exception as error:  # noqa: BLE001 - a crash is what the report is looking for
        return {"status": "crash", "error": f"{type(error).__name__}: {error}"[:400]}
