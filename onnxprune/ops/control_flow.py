"""If, Loop and Scan. The nodes in their bodies have rules of their own; here is what goes into these and comes out.

A unit that goes is zero in every iteration, or in either branch, wherever it is summed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from onnxprune.coupling.atoms import Decline, Link, Operand
from onnxprune.coupling.nodeview import BodyView, NodeView
from onnxprune.coupling.registry import rule
from onnxprune.graph.wiring import Slices, wiring

_BRANCHES = ("then_branch", "else_branch")


@rule("If", shapeless=True)
def if_(node: NodeView, link: Link) -> None:
    """Each output is that of one of the two bodies: axes are the same as both's.

    Where sizes alone decide and the bodies give tensors of other ranks (a Squeeze where an axis is 1), axes longer
    than 1 are matched in order. A body that never runs has no say where it gives another shape.
    """
    if any(name not in node.bodies for name in _BRANCHES):
        raise Decline("it has not both of its bodies")
    bodies = [node.bodies[name] for name in _BRANCHES]
    for operand in node.operands:
        operand.ignore()
    condition = node.value(0)
    runs = 0 if condition is None or condition.all() else 1
    names = [scope.outputs for scope in (node.node.bodies[name] for name in _BRANCHES)]
    for place, (y, *given) in enumerate(zip(node.outputs, *names, strict=False)):
        if not _is_used(node, place):
            continue
        results = [body.outputs[key] for body, key in zip(bodies, given, strict=True)]
        if condition is None:
            _link_equal(node, y, results, link)
        else:
            _link_taken(node, y, results, runs, bodies[1 - runs], link)


def _is_used(node: NodeView, place: int) -> bool:
    return node.node.outputs[place] != "" and bool(node.readers(place))


def _link_equal(node: NodeView, y: Operand | None, results: Sequence[Operand | None], link: Link) -> None:
    """Data decides which of `results` is y."""
    known = [x for x in results if x is not None]
    if len(known) == len(results) and len({x.shape for x in known}) > 1:
        why = "the bodies of the If give different shapes, " + " and ".join(str(list(x.shape)) for x in known)
    elif y is None or len(known) < len(results) or y.shape != known[0].shape:
        why = "the shape of what a body of the If gives is unknown"
    else:
        for x in known:
            link.same_axes(x, y)
        return
    _freeze(node, [*known, y], link, why)


def _link_taken(
    node: NodeView, y: Operand | None, results: Sequence[Operand | None], runs: int, other: BodyView, link: Link
) -> None:
    """At the bound sizes y is `results[runs]`; the body `other` gives the other one."""
    x, left = results[runs], results[1 - runs]
    if x is None or y is None or x.shape != y.shape:
        _freeze(node, [y, x, left], link, "the shape of what a body of the If gives is unknown")
        return
    link.same_axes(x, y)
    if left is not None and _long(left) == _long(y):
        for mine, theirs in zip(_long_axes(left), _long_axes(y), strict=True):
            link.same(left[mine], y[theirs])
    elif not other.never_runs:
        shown = "unknown" if left is None else str(list(left.shape))
        _freeze(
            node, [y, left], link,
            f"at other sizes the other body of the If gives another shape ({shown} here, not {list(y.shape)})",
            "bind the dynamic dimensions to sizes that suit both bodies",
        )  # fmt: skip


def _long_axes(x: Operand) -> list[int]:
    return [axis for axis, size in enumerate(x.shape) if size != 1]


def _long(x: Operand) -> list[int]:
    return [size for size in x.shape if size != 1]


@rule("Loop", "Scan", shapeless=True)
def repeated(node: NodeView, link: Link) -> None:
    """A state has the same axes before, in and after each iteration. What is cut into slices for the body, or stacked
    of its results, has their axes and one for the iterations.
    """
    wired = wiring(node.node)
    if wired is None:
        raise Decline("it does not fit its body, or is a Scan of opset 8")
    body = node.bodies["body"]
    for operand in node.operands:
        if max(operand.shape, default=1) == 1:
            operand.ignore()  # trip count, iteration number and conditions among them
    for state in wired.carried:
        ends = [node.optional(state.start), body.inputs[state.inner], body.outputs[state.result]]
        known = [x for x in (*ends, node.output(state.final)) if x is not None]
        if None in ends or len({x.shape for x in known}) > 1:
            _freeze(node, known, link, "a state of which the shape changes between iterations, or is not known")
            continue
        for x in known[1:]:
            link.same_axes(x, known[0])
    for cut in wired.cut:
        _link_slices(node, node.optional(cut.position), body.inputs[cut.part], cut, link)
    for stacked in wired.stacked:
        _link_slices(node, node.output(stacked.position), body.outputs[stacked.part], stacked, link)


def _link_slices(node: NodeView, whole: Operand | None, part: Operand | None, slices: Slices, link: Link) -> None:
    if whole is None or part is None:
        _freeze(node, [whole, part], link, "how many iterations there are is not known")
        return
    along = slices.axis % whole.rank
    link.freeze(whole[along], "iterations stay")
    others = [axis for axis in range(whole.rank) if axis != along]
    for mine, theirs in zip(others, range(part.rank), strict=True):
        link.same(whole[mine], part[theirs])


def _freeze(node: NodeView, operands: Iterable[Operand | None], link: Link, why: str, help: str = "") -> None:
    """All of these stay, unless the node stands where it never runs."""
    for x in operands:
        if x is not None and not node.never_runs:
            for axis in range(x.rank):
                link.freeze(x[axis], why, help, at=(x.name, axis) if x.shape[axis] > 1 else None)
