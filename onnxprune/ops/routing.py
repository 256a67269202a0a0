"""A router that picks experts: TopK or ArgMax, whose positions say which weights are taken, or where a score is put.

Positions along an axis lose their meaning where an index of it goes. Unless all that reads them means the same axis:
the weights of the experts are gathered by them, scores are scattered to them, they become one-hot rows. Then an expert
goes from the router and from all of these, and the positions name the others by their new places. As many experts as
the router picks must stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from onnxprune.coupling.atoms import Decline, Ids, Link, Operand
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.patterns import Claim, Surroundings, pattern
from onnxprune.coupling.registry import RULES
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.graph.view import Node
from onnxprune.ops.gather_nd import link_tail
from onnxprune.ops.reduce import link_kept_axes
from onnxprune.ops.settings import settle

Taker = Callable[[NodeView, Ids, Link], None]

ROUTED = "the router chooses among the experts"
BEST = "the k largest or smallest, in order"
_CARRIERS = frozenset({
    "Cast", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
})  # fmt: skip
"""Operators that hand positions on, as their first input."""
_DEFAULT_AXIS = {"TopK": -1, "OneHot": -1}
"""Of the axis that positions count, where it is not 0."""


@pattern("TopK", "ArgMax", "ArgMin")
def router(node: Node, graph: Surroundings) -> Claim | None:
    """The node, what hands its positions on, and what takes them; None where anything else reads them."""
    picked = node.outputs[1 if node.op == "TopK" else 0]
    count = _picked(node, graph)
    if count is None or not picked:
        return None
    roles: dict[int, Taker | None] = {}  # by node index; None hands positions on
    nodes, positions = [node], [picked]
    for name in positions:
        if graph.view.leaves(name):
            return None
        for reader, place in graph.view.consumers.get(name, ()):
            if all(o in graph.shapes.arithmetic for o in reader.outputs if o):
                continue
            role = _TAKERS.get((reader.op, place))
            hands_on = reader.op in _CARRIERS and place == 0
            if reader.domain or reader.attrs.get("batch_dims", 0) or not (role or hands_on) or reader.index in roles:
                return None
            if role and _length(reader, graph) != _length(node, graph):
                return None  # the positions mean another axis there
            roles[reader.index] = role
            nodes.append(reader)
            positions += [o for o in reader.outputs if o and hands_on]
    known = all(name in graph.shapes.shape for n in nodes for name in (*n.inputs, *n.outputs) if name)
    if not any(roles.values()) or not known:
        return None
    return _claim(tuple(sorted(nodes, key=lambda n: n.index)), roles, count)


def _picked(node: Node, graph: Surroundings) -> int | None:
    """How many positions are picked along the axis, None where that is not known."""
    if node.op != "TopK":
        return 1
    given = graph.shapes.value.get(node.inputs[1]) if len(node.inputs) > 1 else node.attrs.get("k")
    return None if given is None or node.inputs[0] not in graph.shapes.shape else int(np.reshape(given, -1)[0])


def _length(node: Node, graph: Surroundings) -> int | None:
    """Of the axis that positions count: picked along by the router, indexed or made by what takes them."""
    name = node.outputs[0] if node.op == "OneHot" else node.inputs[0]
    shape = graph.shapes.shape.get(name)
    axis = int(node.attrs.get("axis", _DEFAULT_AXIS.get(node.op, 0)))
    return None if shape is None or not -len(shape) <= axis < len(shape) else shape[axis]


def _claim(nodes: tuple[Node, ...], roles: Mapping[int, Taker | None], count: int) -> Claim:
    def link(views: Sequence[NodeView], link: Link) -> None:
        experts = _link_router(views[0], count, link)
        for view in views[1:]:
            take = roles[view.index]
            if take is None:
                _link_by_rule(view, link)
            else:
                take(view, experts, link)

    def literals(views: Sequence[NodeView], place: int, edit: Rewrite) -> None:
        view = views[place]
        if view.op == "OneHot":
            depth = edit.current(1)
            if depth is not None and edit.changed(view.y):
                left = edit.shape(view.y)[view.axis("axis", -1, rank=view.y.rank)]
                edit.want(1, np.full(depth.shape, left))
        elif place and (rule := RULES.find("", view.op, view.opset)) is not None and rule.rewrite is not None:
            rule.rewrite(view, edit)

    return Claim(nodes, link, literals)


def _link_router(node: NodeView, count: int, link: Link) -> Ids:
    """The axis of the experts, of which `count` stay in any case."""
    x, axis = node.x, node.axis("axis", -1 if node.op == "TopK" else 0)
    experts = x[axis]
    if node.op == "TopK":
        for y in node.outputs:
            if y is not None:
                link.same_axes(x, y, skip=axis)
                link.freeze(y[axis], BEST)
    else:
        link_kept_axes(x, node.y, [axis], bool(node.attr("keepdims", 1)), link)
    link.mix(experts, ROUTED)
    link.tag(experts, "experts")
    if count > 1:
        link.freeze(experts[: count - 1], f"the router picks {count}, so as many stay", at=(x.name, axis))
    return experts


def _link_by_rule(node: NodeView, link: Link) -> None:
    """Link a node as its operator's rule does, with what the rule does not mention frozen."""
    rule = RULES.find("", node.op, node.opset)
    assert rule is not None  # of an operator in _CARRIERS
    for operand in node.operands:
        operand.touched.clear()
    rule.link(node, link)
    for operand in node.operands:
        for axis in set(range(operand.rank)) - operand.touched:
            link.freeze(operand[axis], f"the rule for {node.op} does not let this axis change")


def _gathered(node: NodeView, experts: Ids, link: Link) -> None:
    """Gather: data [..., E, ...], positions I -> y [..., *I, ...]."""
    x, positions, y = node.x, node.input(1), node.y
    axis = node.axis("axis", 0)
    link.same(x[axis], experts)
    for a in range(x.rank):
        if a != axis:
            link.same(x[a], y[a if a < axis else a + positions.rank - 1])
    for a in range(positions.rank):
        link.same(positions[a], y[axis + a])


def _gathered_rows(node: NodeView, experts: Ids, link: Link) -> None:
    """GatherND: data [E, *T], positions [*I, 1] -> y [*I, *T]."""
    x, positions, y = node.x, node.input(1), node.y
    if positions.shape[-1] != 1:
        raise Decline("a position is one of several indices")
    positions.ignore(-1)
    link.same(x[0], experts)
    link_tail(x, 1, y, positions.rank - 1, link)
    for a in range(positions.rank - 1):
        link.same(positions[a], y[a])


def _gathered_elements(node: NodeView, experts: Ids, link: Link) -> None:
    """GatherElements: data [T, E], positions [T, k] -> y [T, k]."""
    x, positions, y = node.x, node.input(1), node.y
    axis = node.axis("axis", 0)
    link.same(x[axis], experts)
    _link_others(x, positions, axis, link)
    link.same_axes(positions, y)


def _scattered(node: NodeView, experts: Ids, link: Link) -> None:
    """ScatterElements: data [T, E], positions and updates [T, k] -> y [T, E]."""
    x, positions, updates = node.x, node.input(1), node.input(2)
    axis = node.axis("axis", 0)
    link.same(x[axis], experts)
    link.same_axes(x, node.y)
    _link_others(x, positions, axis, link)
    link.same_axes(positions, updates)


def _one_hot(node: NodeView, experts: Ids, link: Link) -> None:
    """OneHot: positions I -> y with an axis of E among those of I."""
    positions, y = node.x, node.y
    at = node.axis("axis", -1, rank=y.rank)
    link.same(y[at], experts)
    for mine, theirs in enumerate(axis for axis in range(y.rank) if axis != at):
        link.same(positions[mine], y[theirs])
    settle(node, link, (1, 2), "the depth, or the two values, of a one-hot encoding")


def _link_others(x: Operand, positions: Operand, axis: int, link: Link) -> None:
    """Positions are of x's shape but along `axis`."""
    for a in range(x.rank):
        if a != axis:
            link.same(x[a], positions[a])


_TAKERS: dict[tuple[str, int], Taker] = {
    ("Gather", 1): _gathered,
    ("GatherND", 1): _gathered_rows,
    ("GatherElements", 1): _gathered_elements,
    ("ScatterElements", 1): _scattered,
    ("OneHot", 0): _one_hot,
}
"""Operators that take positions, at which input, and how they are linked."""
