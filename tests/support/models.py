"""Small models for tests, written in ONNX's text syntax or node by node, and a literal view of what couples in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxprune.coupling.coupling import Coupling

DEFAULT_OPSET = 17
SEED = 7


def make_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str | None]],
    outputs: Sequence[str],
    weights: Mapping[str, np.ndarray | Sequence[int]],
    *,
    opset: int = DEFAULT_OPSET,
    input_types: Mapping[str, int] | None = None,
    opsets: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """A model of `nodes`. A weight given as a shape is filled with seeded normal floats, never zero.

    `inputs` maps names to shapes (str or None for dynamic dimensions, float32 unless `input_types` says otherwise);
    outputs are declared without a shape. Domains that nodes are of are imported at version 1 unless `opsets` says.
    """
    rng = np.random.default_rng(SEED)
    arrays = {
        name: w if isinstance(w, np.ndarray) else rng.normal(size=tuple(w)).astype(np.float32) + 0.01
        for name, w in weights.items()
    }
    types = input_types or {}
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(n, types.get(n, onnx.TensorProto.FLOAT), list(s)) for n, s in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(a, order="C"), name) for name, a in arrays.items()],
    )
    others = {n.domain: 1 for n in nodes if n.domain} | dict(opsets or {})
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, v) for d, v in others.items())]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    inferred = onnx.shape_inference.infer_shapes(model)
    for mine, theirs in zip(model.graph.output, inferred.graph.output, strict=True):
        mine.CopyFrom(theirs)
        if not mine.type.HasField("tensor_type"):
            mine.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return model


def units(coupling: Coupling) -> dict[str, list[dict[str, list[int]]]]:
    """Per group, per unit: which indices of which stored tensor's axis go with it, `{"w:0": [3], "b:0": [3]}`."""
    found: dict[str, list[dict[str, list[int]]]] = {}
    for group in coupling.groups:
        members = []
        for unit in range(group.size):
            stay = [i for i in range(group.size) if i != unit]
            removed = coupling.removed_classes({group.index: stay})
            members.append(
                {
                    str(axis): sorted(
                        {
                            int(i)
                            for s in slots
                            for i in np.setdiff1d(
                                np.arange(coupling.atoms.slots[s].size), coupling.kept_of_slot(s, removed)
                            )
                        }
                    )
                    for tensor, by_axis in coupling.tensor_slots.items()
                    for axis, slots in ((f"{tensor}:{a}", s) for a, s in by_axis.items())
                    if any(len(coupling.kept_of_slot(s, removed)) < coupling.atoms.slots[s].size for s in slots)
                }
            )
        found[group.name] = members
    return found
