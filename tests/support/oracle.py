"""Equality of a pruned model with the masked dense model in ONNX Runtime, under random plans."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from onnxprune.analyse import analyse
from onnxprune.check import mask_classes
from onnxprune.coupling.coupling import Coupling
from onnxprune.edit import edit
from onnxprune.graph.model import Model

TOLERANCE = 1e-4  # of the output's scale, fp32 (the bound)
NOT_BLIND = 1e-3  # of the output's scale: by how much the masked model must differ from the dense one


def random_feeds(coupling: Coupling, seed: int = 0, high: int = 8) -> dict[str, np.ndarray]:
    """Inputs at the coupling's bound shapes: normal floats, integers below `high`, all-true masks."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for name, info in coupling.view.inputs.items():
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type))
        shape = coupling.bindings.shapes[name]
        if dtype.kind == "b" or "mask" in name:
            feeds[name] = np.ones(shape, dtype)
        elif np.issubdtype(dtype, np.integer):
            feeds[name] = rng.integers(0, high, shape).astype(dtype)
        else:
            feeds[name] = rng.normal(size=shape).astype(dtype)
    return feeds


def run(model: Model, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The model's outputs in ONNX Runtime on the CPU, one thread, basic optimisation."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(
        model.to_proto(external=True).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, dict(feeds))


def complaint(model: Model) -> str:
    """What onnx's checker says of a model; "" where it has nothing to say."""
    try:
        onnx.checker.check_model(model.to_proto(external=True))
    except onnx.checker.ValidationError as error:
        return str(error)
    return ""


def distance(a: Iterable[np.ndarray], b: Iterable[np.ndarray]) -> float:
    """Largest difference over all outputs, each relative to the largest magnitude of `b`'s; shapes must agree."""
    worst = 0.0
    for x, y in zip(a, b, strict=True):
        assert x.shape == y.shape
        if x.size:
            gap = np.abs(x.astype(np.float64) - y.astype(np.float64)).max()
            worst = max(worst, float(gap / max(np.abs(y.astype(np.float64)).max(), 1e-12)))
    return worst


def random_kept(coupling: Coupling, rng: np.random.Generator, *, exact_only: bool) -> dict[int, np.ndarray]:
    """A random choice of at least one unit to keep in every (exact) group, at least one removed somewhere."""
    return {
        g.index: np.sort(rng.permutation(g.size)[: rng.integers(1, g.size)])
        for g in coupling.groups
        if g.exact or not exact_only
    }


def assert_prunes_exactly(
    source: onnx.ModelProto | str | Path,
    *,
    seeds: Iterable[int] = range(3),
    tolerance: float = TOLERANCE,
    only: Iterable[str] | None = None,
    feeds: Mapping[str, np.ndarray] | None = None,
    **options: Any,
) -> Coupling:
    """Prune exact groups (all, or those named in `only`) at random; equal to the masked dense model, and not blindly.

    Mixed groups are pruned too, and must give a model that runs. Gives the coupling, for further assertions.
    """
    coupling = analyse(source, **options)
    names = None if only is None else set(only)
    chosen = [g for g in coupling.groups if names is None or g.name in names]
    assert chosen, f"nothing to prune; refusals: {[str(r) for r in coupling.refusals]}"
    for seed in seeds:
        rng = np.random.default_rng(seed)
        fed = feeds or random_feeds(coupling, seed)
        kept = random_kept(coupling, rng, exact_only=False)
        exact = {g.index: kept[g.index] for g in chosen if g.exact}
        if exact:
            removed = coupling.removed_classes(exact)
            pruned = edit(coupling, removed).model
            assert complaint(pruned) in ("", complaint(coupling.view.model))
            masked = run(mask_classes(coupling, removed), fed)
            assert distance(run(pruned, fed), masked) <= tolerance
            assert distance(run(coupling.view.model, fed), masked) >= NOT_BLIND, "the comparison is blind"
        if any(not g.exact for g in chosen):
            removed = coupling.removed_classes({g.index: kept[g.index] for g in chosen})
            run(edit(coupling, removed).model, fed)
    return coupling
