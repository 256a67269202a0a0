"""Two models walked through together, a layer's depth at a time, each value computed once.

`Following` runs both models from their inputs for every stage, which costs the depth squared. Here what later nodes
still read is kept for every batch, and each stage runs the nodes of one depth: in the changed model those whose layers
are finished, in the dense one those that give the targets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from onnxprune.graph.view import GraphView, Node
from onnxprune.runtime.fixed import fixed_value
from onnxprune.runtime.following import CHANGED, DENSE, Aim, Followed, Following, accumulators
from onnxprune.runtime.held import Shelf
from onnxprune.runtime.ort import RunOptions, make_session, run
from onnxprune.runtime.rows import Tokens
from onnxprune.runtime.stream import batch_for, tokens_of
from onnxprune.runtime.tap import check_finite, data_folder, read_inside

MEMORY = 4 << 30
"""Bytes of values that are kept in memory between stages; more go to files."""

Values = dict[str, np.ndarray]


def can_walk(view: GraphView, dtypes: Mapping[str, int]) -> bool:
    """Whether a model can be cut between its nodes: no calls of functions, no bfloat16, which numpy does not have."""
    return not view.flat.calls and TensorProto.BFLOAT16 not in {dtypes.get(o) for n in view.nodes for o in n.outputs}


@dataclass
class _Side:
    """One of the two models: what is known of every batch."""

    view: GraphView
    depth: Mapping[str, int]
    values: list[Values] = field(default_factory=list)

    def sections(self, stage: int, wanted: Iterable[str]) -> tuple[list[Node], list[str], list[str]]:
        """The nodes from where it stands up to depth `stage`, what they read of what is known, and what is to be kept:
        what deeper nodes read, and `wanted`.
        """
        known = set(self.values[0])
        main = [n for n in self.view.nodes if n.scope.is_main]
        wanted = {name for name in wanted if name not in self.view.fixed}
        deeper = [n for n in main if self._depth(n) > stage]
        needed = {name for n in deeper for name in _reads(n) if self._is_value(name, stage)} | wanted
        fresh = needed - known
        nodes = _ancestors(main, fresh, known)
        read = {name for n in nodes for name in _reads(n)} & known
        return nodes, sorted(read), sorted(needed)

    def _depth(self, node: Node) -> int:
        return max((self.depth.get(name, 0) for name in node.outputs if name), default=0)

    def _is_value(self, name: str, stage: int) -> bool:
        is_made = name in self.view.producer or name in self.view.inputs
        return is_made and name not in self.view.fixed and self.depth.get(name, 0) <= stage

    def session(self, nodes: Sequence[Node], read: Sequence[str], made: Sequence[str], options: RunOptions) -> Any:
        """An ONNX Runtime session of a part of the model."""
        view = self.view
        stored = {name for n in nodes for name in _reads(n)} & set(view.main.initializers)
        weights = []
        for name in sorted(stored):
            source = view.main.initializers[name]
            copy = TensorProto(name=name, data_type=source.data_type, dims=source.dims)
            view.model.embed(source, copy)
            weights.append(copy)
        infos = [helper.make_tensor_value_info(name, self._type(name), None) for name in read]
        graph = helper.make_graph(
            [NodeProto.FromString(n.proto.SerializeToString()) for n in nodes], "section", infos,
            [ValueInfoProto(name=name) for name in made], weights,
        )  # fmt: skip
        imports = [helper.make_opsetid(domain, version) for domain, version in view.opsets.items()]
        model = helper.make_model(graph, opset_imports=imports, ir_version=view.model.proto.ir_version)
        return make_session(model.SerializeToString(), options, folder=data_folder(view.model))

    def _type(self, name: str) -> int:
        return helper.np_dtype_to_tensor_dtype(self.values[0][name].dtype)


def _reads(node: Node) -> list[str]:
    return [name for name in (*node.inputs, *read_inside(node.proto)) if name]


def _ancestors(main: Sequence[Node], wanted: set[str], known: set[str]) -> list[Node]:
    """The nodes that make `wanted` of what is known, in graph order; what is stored counts as known to ONNX Runtime."""
    makers = {name: n for n in main for name in n.outputs if name}
    found: dict[int, Node] = {}
    pending = list(wanted)
    while pending:
        name = pending.pop()
        node = None if name in known else makers.get(name)
        if node is not None and node.index not in found:
            found[node.index] = node
            pending += _reads(node)
    return [found[index] for index in sorted(found)]


class Walking:
    """Gives moments stage by stage, stages in rising order. `depth` counts the layers that each value has gone through.

    The changed model's layers of a stage must be finished before the next stage is asked for.
    """

    def __init__(
        self, how: Following, dense: GraphView, changed: GraphView, depth: Mapping[str, int],
        shapes: Mapping[str, tuple[int, ...]], memory: int = MEMORY,
    ) -> None:  # fmt: skip
        self._how, self._shelf = how, Shelf(memory)
        self._sides = {DENSE: _Side(dense, depth), CHANGED: _Side(changed, depth)}
        batch = how.batch or batch_for(dense, shapes, [o for n in dense.nodes for o in n.outputs if o in shapes])
        self._batches = list(how.data.batches(batch))
        self._tokens: list[Tokens | None] = [tokens_of(how.mask, item.feeds) for item in self._batches]
        for side in self._sides.values():
            side.values = [{k: v for k, v in item.feeds.items() if k in side.view.inputs} for item in self._batches]

    def __call__(self, stage: int, aims: Sequence[Aim]) -> list[Followed]:
        """The moments of layers that have `stage` layers in front of them."""
        sums = accumulators(self._how, aims)
        reads = {pair for total in sums for pair in total.reads}
        steps = {}
        for name, at in ((CHANGED, stage), (DENSE, stage + 1)):
            side = self._sides[name]
            wanted = {value for model, value in reads if model == name}
            nodes, read, kept = side.sections(at, wanted)
            made = [value for value in kept if value not in side.values[0]]
            session = side.session(nodes, read, made, self._how.options) if made else None
            fixed = {value for value in wanted if value in side.view.fixed}
            steps[name] = session, read, made, kept, {value: _fixed(side.view, value) for value in fixed}
        for index, item in enumerate(self._batches):
            found = {name: self._step(name, index, *step) for name, step in steps.items()}
            for total in sums:
                total.add(found, item, self._tokens[index])
        return [total.result() for total in sums]

    def _step(
        self, name: str, index: int, session: Any, read: Sequence[str], made: Sequence[str], kept: Sequence[str],
        fixed: Values,
    ) -> Values:  # fmt: skip
        side = self._sides[name]
        values = side.values[index]
        fresh: Values = {}
        if session is not None:
            for value, array in zip(made, run(session, list(made), {v: values[v] for v in read}), strict=True):
                check_finite(value, array, f"{self._how.data.origin} makes", "check the data's preprocessing")
                fresh[value] = self._shelf.keep(array)
        side.values[index] = {value: fresh[value] if value in fresh else values[value] for value in kept}
        return {**fixed, **side.values[index]}


def _fixed(view: GraphView, name: str) -> np.ndarray:
    found = fixed_value(view, name)
    if found is None:
        raise KeyError(name)
    return found
