"""Patterns: nodes that are understood together, because none of them alone shows what they do.

Reshape, Transpose, Reshape may shuffle the channels of one axis: taken one by one they split the axis into factors and
join it again, together they are a permutation. A pattern looks at a node and what follows it, and claims the nodes
that it recognises; these are then linked and rewritten by the claim instead of by their operators' rules.

    @pattern("Reshape")
    def shuffle(first: Node, graph: Surroundings) -> Claim | None: ...
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from onnxprune.coupling.atoms import Decline, Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import Rule
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.graph.bindings import Bindings
from onnxprune.graph.functions import repeated_functions
from onnxprune.graph.shapes import Shapes, infer_at_other_sizes
from onnxprune.graph.view import GraphView, Node

ClaimLink = Callable[[Sequence[NodeView], Link], None]
ClaimLiterals = Callable[[Sequence[NodeView], int, Rewrite], None]


@dataclass
class Claim:
    """Nodes in graph order, whose values in between are read by the next of them only.

    `link` is called once, with views of all nodes, and links what goes into the first with what comes out of the last.
    `literals` is called per node with the views of all, the node's place among them and its edit. `exchangeable`: they
    treat the indices of every axis alike, but for what the links say (see ops/exchangeable.py).
    """

    nodes: tuple[Node, ...]
    link: ClaimLink
    literals: ClaimLiterals
    exchangeable: bool = False
    views: list[NodeView] = field(default_factory=list)

    def rule(self, node: NodeView) -> Rule:
        """The rule of a claimed node; to be asked for in graph order."""
        self.views.append(node)
        place = len(self.views) - 1

        def link(node: NodeView, link: Link) -> None:
            for operand in node.operands:
                operand.ignore()
            if place == len(self.nodes) - 1:
                self._link(link)

        def literals(node: NodeView, edit: Rewrite) -> None:
            self.literals(self.views, place, edit)

        return Rule((node.op,), 1, node.node.domain, link, literals, shapeless=True)

    def _link(self, link: Link) -> None:
        try:
            self.link(self.views, link)
        except Decline as declined:
            # The nodes before this one have been linked to nothing: what they touch is frozen here, too.
            for operand in (o for view in self.views for o in view.operands):
                for axis in range(operand.rank):
                    link.freeze(operand[axis], declined.why, declined.help, at=(operand.name, axis))


@dataclass(frozen=True)
class Surroundings:
    """The graph that a finder looks at."""

    view: GraphView
    shapes: Shapes
    bindings: Bindings

    @property
    def other(self) -> Shapes | None:
        """The shapes at other sizes of the dynamic dimensions; None where nothing is dynamic."""
        if self.shapes.other is None and self.bindings.any_dynamic:
            self.shapes.other = infer_at_other_sizes(self.view, self.bindings)
        return self.shapes.other

    def sole_reader(self, name: str) -> Node | None:
        """The only reader of a value, None where there are several, or it leaves the model or a body."""
        readers = self.view.consumers.get(name, ())
        if len(readers) != 1 or self.view.leaves(name):
            return None
        return readers[0][0]


Finder = Callable[[Node, Surroundings], Claim | None]


class Patterns:
    """Finders by the operator of the first node that they claim, in order of registration."""

    def __init__(self) -> None:
        self._finders: dict[str, list[Finder]] = {}

    def add(self, ops: Sequence[str], finder: Finder) -> None:
        for op in ops:
            known = self._finders.setdefault(op, [])
            if finder in known:
                raise ValueError(f"{finder.__name__} is registered for {op} already")
            known.append(finder)

    def claims(self, graph: Surroundings) -> dict[int, Claim]:
        """The claim of each claimed node, by the node's index. No node is claimed twice; the first claim counts.

        Nor are nodes of different graphs claimed together: what one of them reads need not be there for another.
        """
        found: dict[int, Claim] = {}
        repeated = repeated_functions(graph.view.flat)
        for node in graph.view.nodes:
            if repeated and any(id(scope.graph) in repeated for scope in node.scope.enclosing()):
                continue  # a claim replaces nodes, which would have to be the same for all calls
            for finder in self._finders.get(node.op, ()) if node.domain == "" else ():
                claim = None if node.index in found else finder(node, graph)
                if claim is None or any(n.scope is not node.scope for n in claim.nodes):
                    continue
                if not any(n.index in found for n in claim.nodes):
                    found.update((n.index, claim) for n in claim.nodes)
        return found


PATTERNS = Patterns()


def pattern(*ops: str, patterns: Patterns = PATTERNS) -> Callable[[Finder], Finder]:
    """Register the decorated finder for chains of nodes that begin with one of `ops`."""

    def register(finder: Finder) -> Finder:
        patterns.add(ops, finder)
        return finder

    return register
