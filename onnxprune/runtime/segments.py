"""A model cut into segments that can be run, and timed, on their own.

A cut is where, of all that pruning shortens, a single narrow value passes from one node to the next: between the blocks
of a network. Inside a segment a runtime fuses nodes and keeps its layouts as in the whole model.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, ValueInfoProto, helper

from onnxprune.coupling.coupling import Coupling
from onnxprune.graph.model import Model
from onnxprune.runtime.feeds import random_feeds
from onnxprune.runtime.latency import Runner
from onnxprune.runtime.ort import RunOptions, make_session, run
from onnxprune.runtime.tap import data_folder, exposing

_WORKS = 6  # nodes that multiply, at most, in a segment that could be cut


@dataclass(frozen=True)
class Cuts:
    """`after[i]` is the value whose making ends segment i; the last segment ends with the model."""

    after: tuple[str, ...]

    def segment_of(self, coupling: Coupling) -> np.ndarray:
        """For each node of the coupling's view (int64) the segment that it is in."""
        ends = np.fromiter((coupling.view.producer[name].index for name in self.after), np.int64, len(self.after))
        return np.searchsorted(ends, np.arange(len(coupling.view.nodes)))


def find_cuts(coupling: Coupling) -> Cuts:
    """Where the coupling's model is cut; nowhere, if its nodes are not in the order in which they run."""
    view = coupling.view
    working = set(coupling.work_sites)
    varying = {coupling.atoms.slots[s].tensor for s in np.unique(coupling.units.slot).tolist()} - view.fixed
    last = {name: max((node.index for node, _ in view.consumers.get(name, ())), default=-1) for name in varying}
    alive: set[str] = set()
    found: list[tuple[int, str]] = []
    for node in view.nodes:
        if any(view.producer[name].index > node.index for name in node.inputs if name in view.producer):
            return Cuts(())
        alive |= {name for name in node.outputs if name in varying}
        alive = {name for name in alive if last[name] > node.index}
        if len(alive) == 1 and node.scope.is_main and alive == set(node.outputs):
            (value,) = alive
            readers = view.consumers[value]
            if len(readers) > 1 or readers[0][0].index in working:
                found.append((node.index, value))
    return Cuts(tuple(value for _, value in _narrow(coupling, found)))


def _narrow(coupling: Coupling, found: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """The cuts that are no wider than the ones next to them, and others where a segment would be long."""
    sizes = [float(np.prod(coupling.shapes.shape[value])) for _, value in found]
    kept = [
        k for k in range(len(found))
        if sizes[k] <= min(sizes[k - 1] if k else np.inf, sizes[k + 1] if k + 1 < len(found) else np.inf)
    ]  # fmt: skip
    works = np.sort(np.asarray(coupling.work_sites, np.int64))
    borders = [-1, *(found[k][0] for k in kept), len(coupling.view.nodes)]
    for start, end in pairwise(borders):
        while np.searchsorted(works, end, "right") - np.searchsorted(works, start, "right") > _WORKS:
            inside = [k for k in range(len(found)) if start < found[k][0] < end]
            if not inside:
                break
            best = min(inside, key=lambda k: (sizes[k], -found[k][0]))
            kept.append(best)
            start = found[best][0]
    return [found[k] for k in sorted(set(kept))]


def segment_runners(model: Model, cuts: Cuts, feeds: Mapping[str, np.ndarray], options: RunOptions) -> list[Runner]:
    """A runner for each segment of `model`, an edited copy of the one that `cuts` were found in.

    The segments are fed with what flows through the model on `feeds`. Raises as `make_session` and `run` do.
    """
    proto = model.to_proto(external=True)
    pieces = _Pieces(proto)
    parts = pieces.parts(cuts)
    border = sorted({name for part in parts for name in part.inputs} - set(feeds))
    known = dict(feeds)
    if border:
        session = make_session(exposing(model, border), options, folder=data_folder(model))
        known |= dict(zip(border, run(session, border, dict(feeds)), strict=True))
    return [
        Runner.of(pieces.model(part, known).SerializeToString(), {name: known[name] for name in part.inputs}, options)
        for part in parts
    ]


@dataclass(frozen=True)
class _Part:
    nodes: tuple[int, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class _Pieces:
    """A proto's nodes, by what they read and make."""

    def __init__(self, proto: ModelProto) -> None:
        self.proto = proto
        self.nodes = list(proto.graph.node)
        self.reads = [[name for name in _reads(node) if name] for node in self.nodes]
        self.maker = {name: i for i, node in enumerate(self.nodes) for name in node.output if name}
        self.stored = {t.name: t for t in proto.graph.initializer}
        self.fed = {i.name for i in proto.graph.input} - self.stored.keys()
        self.fixed = self._fixed()

    def _fixed(self) -> set[str]:
        """Values that follow from what is stored alone."""
        found = set(self.stored)
        for node, reads in zip(self.nodes, self.reads, strict=True):
            if all(name in found or (name not in self.maker and name not in self.fed) for name in reads):
                found.update(node.output)
        return found

    def parts(self, cuts: Cuts) -> list[_Part]:
        ends = [self.maker[name] for name in cuts.after]
        own: list[set[int]] = [set() for _ in range(len(ends) + 1)]
        for i, node in enumerate(self.nodes):
            if not all(name in self.fixed for name in node.output):
                own[int(np.searchsorted(ends, i))].add(i)
        outputs = {o.name for o in self.proto.graph.output}
        readers: dict[str, set[int]] = {}
        for i, reads in enumerate(self.reads):
            for name in reads:
                readers.setdefault(name, set()).add(i)
        return [self._part(nodes, outputs, readers) for nodes in own if nodes]

    def _part(self, nodes: set[int], outputs: Collection[str], readers: Mapping[str, set[int]]) -> _Part:
        inside, inputs = set(nodes), set()
        pending = [name for i in nodes for name in self.reads[i]]
        while pending:
            name = pending.pop()
            at = self.maker.get(name)
            if name in self.fixed:
                if at is not None and at not in inside:  # weights that nodes make come with whoever reads them
                    inside.add(at)
                    pending += self.reads[at]
            elif name in self.fed or (at is not None and at not in inside):
                inputs.add(name)
        made = {name for i in nodes for name in self.nodes[i].output if name}
        given = {name for name in made if name in outputs or readers.get(name, set()) - nodes}
        return _Part(tuple(sorted(inside)), tuple(sorted(inputs)), tuple(sorted(given)))

    def model(self, part: _Part, known: Mapping[str, np.ndarray]) -> ModelProto:
        reads = {name for i in part.nodes for name in self.reads[i]}
        graph = GraphProto(name="segment")
        graph.node.extend(self.nodes[i] for i in part.nodes)
        graph.initializer.extend(tensor for name, tensor in self.stored.items() if name in reads)
        for name in part.inputs:
            kind = helper.np_dtype_to_tensor_dtype(np.asarray(known[name]).dtype)
            graph.input.append(helper.make_tensor_value_info(name, kind, np.shape(known[name])))
        graph.output.extend(ValueInfoProto(name=name) for name in part.outputs)
        return ModelProto(
            ir_version=max(self.proto.ir_version, 4),  # from which on initializers need not be inputs
            opset_import=self.proto.opset_import,
            functions=self.proto.functions,
            graph=graph,
        )


def _reads(node: NodeProto) -> Iterator[str]:
    """What a node reads, in its bodies too; names that a body defines itself nobody else makes."""
    yield from node.input
    for attribute in node.attribute:
        bodies: Sequence[GraphProto] = [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs
        for body in bodies:
            for inner in body.node:
                yield from _reads(inner)
            yield from (output.name for output in body.output)


def feeds_of(coupling: Coupling, model: Model, seed: int) -> dict[str, np.ndarray]:
    """Made-up inputs for a model edited from the coupling's, at the bound sizes."""
    return random_feeds(coupling.view.inputs, coupling.bindings.shapes, seed)
