"""Analyse a model: bind shapes, let every operator's rule state its links, solve, and name what can be pruned."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto

from onnxprune import ops
from onnxprune.coupling.atoms import Atoms, Decline, Ids, Link, Links, Operand
from onnxprune.coupling.calls import tie_calls
from onnxprune.coupling.coupling import Coupling, Site
from onnxprune.coupling.groups import Units
from onnxprune.coupling.nodeview import NodeView, VectorKeys
from onnxprune.coupling.parameters import parameters_of
from onnxprune.coupling.patterns import PATTERNS, Surroundings
from onnxprune.coupling.settled import freeze_orphans
from onnxprune.coupling.solve import solve
from onnxprune.errors import ModelError, SettingError
from onnxprune.graph.bindings import Bindings, bind_inputs
from onnxprune.graph.fixed import is_computable
from onnxprune.graph.functions import specialise
from onnxprune.graph.io import load
from onnxprune.graph.model import Model
from onnxprune.graph.shapes import Shapes, infer_shapes
from onnxprune.graph.uncollected import uncollected
from onnxprune.graph.view import GraphView
from onnxprune.ops.exchangeable import is_exchangeable, is_parallel
from onnxprune.ops.reduce import NORMS
from onnxprune.types import Refusal

log = logging.getLogger(__name__)

Source = str | os.PathLike[str] | ModelProto | Model | Any
Measure = Callable[[GraphView, Bindings, list[str]], Mapping[str, tuple[int, ...]]]


@uncollected()
def analyse(
    source: Source,
    *,
    bind: Mapping[str, int] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    allow_io_change: Iterable[str] = (),
    specialise_functions: bool = False,
    measure: Measure | None = None,
    measured: Mapping[str, Sequence[int]] | None = None,
) -> Coupling:
    """Find the groups of units that can be removed from a model.

    `bind` and `input_shapes` bind dynamic dimensions (see graph/bindings.py); `allow_io_change` names graph inputs
    and outputs that may shrink. `specialise_functions` gives each call of a model-local function that is called more
    than once a copy of its own, so that calls may lose different units where the body carries sizes. `measure` is asked
    for the shapes of values that inference leaves open, e.g. `onnxprune.measure_shapes`; `measured` gives such shapes
    at once.

    Raises ModelError for a model that cannot be read and SettingError for names that it does not have.
    """
    model = load(source)
    if specialise_functions:
        model = specialise(model)
    view = GraphView(model)
    allowed = tuple(allow_io_change)
    for name in allowed:
        if name not in view.inputs and name not in view.outputs:
            raise SettingError(
                f"--allow-io-change: the model has no input or output {name!r}",
                remedy="its inputs and outputs: " + ", ".join([*view.inputs, *view.outputs]),
            )
    bindings = bind_inputs(view, bind, input_shapes)
    found = {name: tuple(shape) for name, shape in (measured or {}).items()}
    shapes = infer_shapes(view, bindings, found)
    if measure is not None:
        open_values = [o for n in view.nodes if n.scope.is_main for o in n.outputs if o and o not in shapes.shape]
        if open_values:
            try:
                found.update(measure(view, bindings, open_values))
            except ModelError as error:
                log.warning("shapes stay unknown, and what they belong to stays as it is: %s", error)
            else:
                shapes = infer_shapes(view, bindings, found)
    options: dict[str, Any] = {
        "bind": dict(bind or {}),
        "input_shapes": {k: list(v) for k, v in (input_shapes or {}).items()},
        "allow_io_change": list(allowed),
    }
    if specialise_functions:
        options["specialise_functions"] = True
    if found:  # a plan holds them, so that it can be carried out where nothing can be measured
        options["measured"] = {name: list(shape) for name, shape in found.items()}
    atoms, links, sites = _link(view, bindings, shapes, frozenset(allowed))
    solution = solve(atoms, links)
    parameters = parameters_of(view)
    units = Units(atoms, solution, [i for i, slot in enumerate(atoms.slots) if slot.tensor in parameters])
    return Coupling(view, bindings, shapes, atoms, links, solution, units, sites, parameters, options, found)


def _link(
    view: GraphView, bindings: Bindings, shapes: Shapes, allowed: frozenset[str]
) -> tuple[Atoms, Links, list[Site]]:
    atoms, links, sites = Atoms(), Links(), []
    reduced: list[Ids] = []  # over which statistics of what is stored run
    keys = VectorKeys(view)
    rules = ops.registry()
    claims = PATTERNS.claims(Surroundings(view, shapes, bindings))
    for raw in view.nodes:
        if not raw.bodies and all(name in shapes.arithmetic for name in raw.outputs if name):
            sites.append(Site(NodeView(raw, view, shapes, atoms, keys), None))
            continue
        if raw.op == "Identity" and raw.domain == "" and keys.is_shared_vector(view.identity_source(raw.inputs[0])):
            sites.append(Site(NodeView(raw, view, shapes, atoms, keys), None))
            continue  # its readers have atoms of their own, see VectorKeys
        node = NodeView(raw, view, shapes, atoms, keys)
        claim = claims.get(raw.index)
        rule = rules.find(raw.domain, raw.op, raw.opset) if claim is None else claim.rule(node)
        link = Link(atoms, raw.index, raw.title, raw.op)
        try:
            if rule is None:
                name = f"{raw.domain}.{raw.op}" if raw.domain else raw.op
                raise Decline(f"no rule for the operator {name}", "a rule can be added through onnxprune.rules")
            if node.unknown and not rule.shapeless:
                help = "install a runtime extra, or bind input shapes"
                if not raw.scope.is_main:
                    help = "bind input shapes to sizes that suit this body"
                raise Decline(f"the shape of {node.unknown[0]} is unknown", help)
            rule.link(node, link)
        except Decline as declined:
            link = Link(atoms, raw.index, raw.title, raw.op)
            _freeze_all(node.stranded, link, declined.why, declined.help)
            rule = None
        else:
            for operand in node.operands:
                if operand.name not in shapes.arithmetic:
                    missed = set(range(operand.rank)) - operand.touched
                    for axis in missed:
                        link.freeze(operand[axis], f"the rule for {raw.op} does not let this axis change")
        settled = _is_settled(node, link.recorded, view)
        if settled:
            reduced += [ids for ids, _ in link.recorded.mixes]
            link.recorded.mixes, link.recorded.contracts = [], []
        links.extend(link.recorded)
        alike = is_exchangeable(raw.domain, raw.op) if claim is None else claim.exchangeable
        sites.append(Site(node, rule, link.recorded, alike, is_parallel(raw.domain, raw.op), settled))
    for recorded in tie_calls(atoms, sites) if view.flat.calls else ():
        links.extend(recorded)
    if reduced:
        links.frozen += freeze_orphans(atoms, sites, reduced, view)
    _freeze_borders(view, bindings, shapes, allowed, atoms, links)
    return atoms, links, sites


def _is_settled(node: NodeView, recorded: Links, view: GraphView) -> bool:
    """Whether a node takes a statistic, or a norm, of what is stored alone (see coupling/settled.py)."""
    if not recorded.mixes and not (recorded.contracts and node.op in NORMS):
        return False
    y = node.output(0)
    if y is None or any(node.readers(position) for position in range(1, len(node.outputs))):
        return False
    return is_computable(view, y.name)


def _freeze_all(operands: Iterable[Operand], link: Link, why: str, help: str) -> None:
    for operand in operands:
        for axis in range(operand.rank):
            link.freeze(operand[axis], why, help, at=(operand.name, axis) if operand.shape[axis] > 1 else None)


def _freeze_borders(
    view: GraphView, bindings: Bindings, shapes: Shapes, allowed: frozenset[str], atoms: Atoms, links: Links
) -> None:
    """Graph inputs and outputs keep their shape, and computed sizes keep theirs."""
    help_io = "name it with --allow-io-change if it may shrink"
    border: list[tuple[str, str, str, str]] = []
    border += [(name, "graph input", "an input of the model", help_io) for name in view.inputs]
    border += [(name, "graph output", "an output of the model", help_io) for name in view.outputs]
    for name, op, why, help in border:
        shape = shapes.shape.get(name, ())
        for axis, size in enumerate(shape):
            if name in allowed and not _is_dynamic(bindings, name, axis):
                continue
            ids = atoms.ids((name, -1, -1), axis, size)
            reason = atoms.reason(Refusal(name, op, name, axis, why, help))
            links.frozen.append((ids, reason))
    computed = {o for n in view.nodes for o in n.outputs if o in shapes.arithmetic and n.op != "Constant"}
    for slot in list(atoms.slots):
        if slot.tensor in computed:
            reason = atoms.reason(Refusal(slot.tensor, "sizes", slot.tensor, slot.axis, "computed from sizes"))
            links.frozen.append((np.arange(slot.start, slot.start + slot.size), reason))


def _is_dynamic(bindings: Bindings, name: str, axis: int) -> bool:
    flags = bindings.dynamic.get(name, ())
    return axis < len(flags) and flags[axis]
