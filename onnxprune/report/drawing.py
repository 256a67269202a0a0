"""A model's graph as a drawing: nodes in rows from inputs to outputs, marked by the groups whose units pass them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnxprune.coupling.coupling import Coupling
from onnxprune.graph.node import Node, Scope

COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999")
"""Okabe and Ito's palette. There are more groups than colours: each mark has the group's number, too."""

WIDTH, HEIGHT = 132, 22  # of a node, in units of the drawing
GAP_X, GAP_Y = 14, 16
MARKS = 4  # groups that a node shows; its title has all


@dataclass(frozen=True)
class Box:
    """A node: its place, its operator, what a pointer over it is told, and the groups it touches by number."""

    x: float
    y: float
    op: str
    title: str
    groups: tuple[int, ...]


@dataclass(frozen=True)
class Drawing:
    """Boxes, and lines (x1, y1, x2, y2) from a node to those that read what it gives."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    lines: tuple[tuple[float, float, float, float], ...]


def groups_by_node(coupling: Coupling) -> dict[str, tuple[int, ...]]:
    """For each node's title the indices of the groups whose units it makes, passes or sums over."""
    found: dict[str, list[int]] = {}
    for group in coupling.groups:
        for title in group.nodes:
            found.setdefault(title, []).append(group.index)
    return {title: tuple(indices) for title, indices in found.items()}


def draw(coupling: Coupling) -> Drawing:
    """The main graph and the calls in it. Nodes that follow from what is stored alone are left out.

    A node stands one row below the lowest of those that it reads from, and in its row near the middle of them.
    """
    nodes = [
        node for node in coupling.view.nodes
        if not _is_in_body(node) and not all(name in coupling.view.fixed for name in node.outputs if name)
    ]  # fmt: skip
    rows, reads = _rows(nodes)
    place = _columns(rows, reads)
    widest = max((column for column in place.values()), default=0.0)
    marks = groups_by_node(coupling)
    boxes, at = [], {}
    for number, row in enumerate(rows):
        for node in row:
            x, y = place[node.index] * (WIDTH + GAP_X), float(number * (HEIGHT + GAP_Y))
            at[node.index] = x, y
            mine = marks.get(node.title, ())
            named = "".join(f"\n{index + 1}: {coupling.groups[index].name}" for index in mine)
            boxes.append(Box(x, y, node.op, f"{node.title} ({node.op}){named}", tuple(index + 1 for index in mine)))
    lines = tuple(
        (at[source][0] + WIDTH / 2, at[source][1] + HEIGHT, at[reader][0] + WIDTH / 2, at[reader][1])
        for reader, sources in reads.items()
        for source in sorted(sources)
    )
    return Drawing((widest + 1) * (WIDTH + GAP_X), len(rows) * (HEIGHT + GAP_Y), tuple(boxes), lines)


def _is_in_body(node: Node) -> bool:
    scope: Scope | None = node.scope
    while scope is not None:
        if scope.parent is not None:
            return True
        scope = scope.caller
    return False


def _rows(nodes: list[Node]) -> tuple[list[list[Node]], dict[int, set[int]]]:
    """Nodes by how many come before them at most, and for each node's index those of the nodes that it reads from."""
    maker = {name: node.index for node in nodes for name in node.outputs if name}
    depth: dict[int, int] = {}
    reads: dict[int, set[int]] = {}
    rows: list[list[Node]] = []
    for node in nodes:
        reads[node.index] = {maker[name] for name in node.inputs if name in maker}
        depth[node.index] = max((depth.get(source, -1) + 1 for source in reads[node.index]), default=0)
        while len(rows) <= depth[node.index]:
            rows.append([])
        rows[depth[node.index]].append(node)
    return rows, reads


def _columns(rows: list[list[Node]], reads: Mapping[int, set[int]]) -> dict[int, float]:
    """A column for each node's index: the mean of those that it reads from, or the next one that is free."""
    place: dict[int, float] = {}
    for row in rows:
        wanted = {
            node.index: sum(place[source] for source in reads[node.index]) / len(reads[node.index])
            if reads[node.index] else 0.0
            for node in row
        }  # fmt: skip
        free = 0.0
        for node in sorted(row, key=lambda node: (wanted[node.index], node.index)):
            place[node.index] = max(free, wanted[node.index])
            free = place[node.index] + 1
    return place
