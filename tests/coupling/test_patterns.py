"""Claims: who is asked, who wins, and that a claim which cannot be linked freezes all that it took away."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from onnx.helper import make_node

from onnxprune.coupling.atoms import Atoms, Decline, Link
from onnxprune.coupling.nodeview import NodeView, VectorKeys
from onnxprune.coupling.patterns import Claim, Patterns, Surroundings, pattern
from onnxprune.graph.bindings import bind_inputs
from onnxprune.graph.io import load
from onnxprune.graph.shapes import infer_shapes
from onnxprune.graph.view import GraphView, Node
from tests.support.models import make_model


def graph() -> Surroundings:
    """x -> Relu a -> Relu b -> Relu c -> Relu out; b is read twice."""
    nodes = [make_node("Relu", [i], [o]) for i, o in [("x", "a"), ("a", "b"), ("b", "c"), ("c", "out")]]
    model = make_model([*nodes, make_node("Neg", ["b"], ["other"])], {"x": [2, 3]}, ["out", "other"], {})
    view = GraphView(load(model))
    bindings = bind_inputs(view)
    return Surroundings(view, infer_shapes(view, bindings), bindings)


def nothing(*_: object) -> None:
    return


def pair(first: Node, graph: Surroundings) -> Claim | None:
    """Claims a node and its only reader."""
    second = graph.sole_reader(first.outputs[0])
    return None if second is None else Claim((first, second), nothing, nothing)


def test_no_node_is_claimed_twice_and_the_first_claim_counts() -> None:
    patterns = Patterns()
    pattern("Relu", patterns=patterns)(pair)
    claims = patterns.claims(graph())
    assert {index: [n.index for n in claim.nodes] for index, claim in claims.items()} == {
        0: [0, 1], 1: [0, 1], 2: [2, 3], 3: [2, 3],
    }  # fmt: skip


def test_other_operators_are_not_asked() -> None:
    patterns = Patterns()
    pattern("Neg", patterns=patterns)(pair)
    assert patterns.claims(graph()) == {}


def test_a_finder_is_registered_once() -> None:
    patterns = Patterns()
    pattern("Relu", patterns=patterns)(pair)
    with pytest.raises(ValueError, match="registered for Relu already"):
        pattern("Relu", patterns=patterns)(pair)


def test_sole_reader() -> None:
    seen = graph()
    assert seen.sole_reader("a") is seen.view.nodes[1]
    assert seen.sole_reader("b") is None, "two read it"
    assert seen.sole_reader("out") is None, "the model reads it"


def link_claimed(claim: Claim, seen: Surroundings) -> tuple[Atoms, list[Link]]:
    atoms, keys = Atoms(), VectorKeys(seen.view)
    links = []
    for node in claim.nodes:
        view = NodeView(node, seen.view, seen.shapes, atoms, keys)
        link = Link(atoms, node.index, node.title, node.op)
        claim.rule(view).link(view, link)
        links.append(link)
    return atoms, links


def test_a_claim_is_linked_at_its_last_node_from_the_first_input_to_the_last_output() -> None:
    def link(views: Sequence[NodeView], link: Link) -> None:
        link.same_axes(views[0].x, views[-1].y)

    seen = graph()
    atoms, links = link_claimed(Claim((seen.view.nodes[0], seen.view.nodes[1]), link, nothing), seen)
    assert [len(found.recorded.wholes) for found in links] == [0, 2]
    assert {slot.tensor for slot in atoms.slots} == {"x", "b"}


def test_a_claim_that_declines_freezes_all_that_its_nodes_touch() -> None:
    def link(views: Sequence[NodeView], link: Link) -> None:
        raise Decline("no idea")

    seen = graph()
    atoms, links = link_claimed(Claim((seen.view.nodes[0], seen.view.nodes[1]), link, nothing), seen)
    frozen = {(atoms.reasons[why].tensor, atoms.reasons[why].axis) for _, why in links[-1].recorded.frozen}
    assert frozen == {(name, axis) for name in ("x", "a", "b") for axis in (0, 1)}
